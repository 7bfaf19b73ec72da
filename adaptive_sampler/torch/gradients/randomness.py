"""The random generators that a model draws its dropout masks from: their states are kept, restored, or changed."""

import contextlib
import random
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

States = list[Callable[[], object]]
"""For each generator, a function that puts it back into the state that was kept."""


def generator_states(model: nn.Module) -> States:
    """The states of torch's generators (CPU, and the accelerators that the model is on), of `random` and of `np.random`.

    Models draw from the last two as well, for stochastic depth, layer drop, or spans that are masked.
    """
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one is what models draw from
    return [
        *(partial(generator.set_state, generator.get_state()) for generator in _of_torch(model)),
        partial(random.setstate, random.getstate()),
        partial(np.random.set_state, numpys),
    ]


def restore(states: States) -> None:
    """Put every generator back into the state that was kept."""
    for put_back in states:
        put_back()


@contextlib.contextmanager
def same_random_state(model: nn.Module) -> Iterator[None]:
    """A context after which the generators are as they were before, whatever was drawn inside."""
    states = generator_states(model)
    try:
        yield
    finally:
        restore(states)


def draw_elsewhere(model: nn.Module) -> None:
    """Give the generators new states that follow from the present ones, so that the masks drawn next are others."""
    seed = int(torch.randint(2**62, ()))
    for generator in _of_torch(model):
        generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - as above


def _of_torch(model: nn.Module) -> list[torch.Generator]:
    """torch's default generators of the CPU and of the accelerators that the model is on."""
    found = [torch.default_generator]
    for device in {p.device for p in model.parameters() if p.device.type in ("cuda", "xpu")}:
        found.append(getattr(torch, device.type).default_generators[device.index])
    return found
