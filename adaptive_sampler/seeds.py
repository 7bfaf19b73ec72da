"""Seeds of random streams, each derived from an address: (seed, epoch, purpose, …).

No global generator is used. The parts of an address are hashed, never added: with seed + epoch, seed 1 in epoch 2 would
repeat seed 2 in epoch 1.
"""

from enum import IntEnum

import numpy as np

from adaptive_sampler.checks import is_whole
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels.seeding import first_word

_WORD = 1 << 32


class Purpose(IntEnum):
    """What a stream of random numbers is for. The values are part of the format: append new ones, never renumber."""

    ORDER = 0
    TIES = 1
    DRAW = 2
    SHARDS = 4
    SHARE = 5
    STRATA = 6
    TEACHER = 7
    POLICY = 8
    MINING = 9
    GROUPS = 10


def key(seed: int, epoch: int, purpose: Purpose, *more: int) -> int:
    """A 64-bit key for the stream at this address, the same on every platform.

    `more`: further parts of the address, such as the number of a plan. Raises `InvalidValue` unless seed and epoch are
    integers, 0 or more.
    """
    if not is_whole(seed) or not is_whole(epoch):
        raise InvalidValue(f"seed={seed}, epoch={epoch}: both must be 0 or more. Pass non-negative integers.")
    seed, epoch = int(seed), int(epoch)
    address = [seed, epoch, int(purpose), *more]
    if max(address) >= _WORD:
        address = [word for part in address for word in _words(part)]
    return int(first_word(np.array(address, np.uint32)))


def _words(part: int) -> list[int]:
    """A part of an address in words of 32 bits, the lowest first, as NumPy splits it."""
    return [part % _WORD, *(_words(part // _WORD) if part >= _WORD else [])]
