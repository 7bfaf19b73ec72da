"""Randomness has an address: (seed, epoch, purpose, …), never a global generator, never seed + epoch."""

from enum import IntEnum

import numpy as np

from adaptive_sampler.errors import InvalidValue


class Purpose(IntEnum):
    """What a stream of random numbers is for. Values are part of the format: append, never renumber."""

    ORDER = 0
    TIES = 1
    DRAW = 2
    SHARDS = 4


def key(seed: int, epoch: int, purpose: Purpose, *more: int) -> int:
    """A 64-bit key for the stream at this address; the same on every platform."""
    if seed < 0 or epoch < 0:
        raise InvalidValue(f"seed={seed}, epoch={epoch}: both must be 0 or more. Pass non-negative integers.")
    words = np.random.SeedSequence([seed, epoch, int(purpose), *more]).generate_state(1, np.uint64)
    return int(words[0])
