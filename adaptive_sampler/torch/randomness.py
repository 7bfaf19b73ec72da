"""The generators a model draws its dropout masks from: kept, restored, moved elsewhere."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

States = list[tuple[torch.Generator, Tensor]]


def generator_states(model: nn.Module) -> States:
    """State of the CPU's generator and of those of the accelerators that the model is on."""
    found = [torch.default_generator]
    for device in {p.device for p in model.parameters() if p.device.type in ("cuda", "xpu")}:
        found.append(getattr(torch, device.type).default_generators[device.index])
    return [(generator, generator.get_state()) for generator in found]


def restore(states: States) -> None:
    """Put every generator back to the state it was seen in."""
    for generator, state in states:
        generator.set_state(state)


@contextlib.contextmanager
def same_random_state(model: nn.Module) -> Iterator[None]:
    """Whatever is drawn inside, the generators are afterwards as they were."""
    states = generator_states(model)
    try:
        yield
    finally:
        restore(states)


def draw_elsewhere(model: nn.Module) -> None:
    """Move the generators to a state that follows from the present one but shares no mask with it."""
    seed = int(torch.randint(2**62, ()))
    for generator, _ in generator_states(model):
        generator.manual_seed(seed)
