"""The generators a model draws its dropout masks from: kept, restored, moved elsewhere."""

import contextlib
import random
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

States = list[Callable[[], object]]
"""Each puts one generator back to the state that it was seen in."""


def generator_states(model: nn.Module) -> States:
    """State of the CPU's generator, of those of the accelerators that the model is on, of `random` and of `np.random`.

    Models draw from the last two as well: stochastic depth, layer drop, spans that are masked.
    """
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one is what models draw from
    return [
        *(partial(generator.set_state, generator.get_state()) for generator in _of_torch(model)),
        partial(random.setstate, random.getstate()),
        partial(np.random.set_state, numpys),
    ]


def restore(states: States) -> None:
    """Put every generator back to the state it was seen in."""
    for put_back in states:
        put_back()


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
    for generator in _of_torch(model):
        generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - as above


def _of_torch(model: nn.Module) -> list[torch.Generator]:
    found = [torch.default_generator]
    for device in {p.device for p in model.parameters() if p.device.type in ("cuda", "xpu")}:
        found.append(getattr(torch, device.type).default_generators[device.index])
    return found
