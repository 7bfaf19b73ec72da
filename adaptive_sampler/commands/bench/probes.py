"""Measures the memory of this machine: a copy of a number of bytes, and a number of reads at random places."""

from typing import Any

import numpy as np

from adaptive_sampler.commands.bench.base import Turn
from adaptive_sampler.kernels.jit import kernel


def copy(moved: int) -> Turn:
    """Read `moved` / 2 bytes in order and write as many: the cost of sequential access."""
    source = np.ones(max(1, moved // 2), np.uint8)
    target = np.zeros_like(source)
    return lambda: np.copyto(target, source)


def gather(accesses: int, footprint: int) -> Turn:
    """Read `accesses` float32 at random places of `footprint` bytes: the cost of cache misses.

    No read waits for another, so the processor has as many under way as it can.
    """
    data = np.ones(max(1, footprint // 4), np.float32)
    places = np.random.default_rng(0).integers(0, len(data), accesses)
    out = np.empty(accesses, np.float32)
    return lambda: _gather(data, places, out)


@kernel
def _gather(data: Any, places: Any, out: Any) -> None:
    for i in range(places.size):
        out[i] = data[places[i]]
