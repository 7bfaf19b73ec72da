"""Where a number of units ends in a ranking whose rows have sizes: a stretch of units as a stretch of ranks, exactly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.select import Ties, premix

_BINS = 1 << 16


@kernel
def tally(keys: Any, prefix: Any, sizes: Any, rows: Any, units: Any) -> None:
    """Count keys, uint32, and add up their sizes, by their upper 16 bits (prefix < 0), or by the lower 16 of those of `prefix`."""
    for i in range(keys.size):
        key = np.int64(keys[i])
        if prefix < 0:
            rows[key >> 16] += 1
            units[key >> 16] += sizes[i]
        elif key >> 16 == prefix:
            rows[key & 0xFFFF] += 1
            units[key & 0xFFFF] += sizes[i]


def rank_at(
    scores: NDArray[np.float32], sizes: NDArray[np.int64], unit: int, *, salt: int, ties: Ties, identity: Identity
) -> int:
    """How many rows of the ascending ranking have their first unit before `unit`, all of them if there are no more units.

    `scores`: (n,), as `select.rank_window` ranks them, which takes the same `salt`, `ties` and `identity`; NaN has no rank.
    `sizes`: (n,) how many units each row has, 0 or more, whose sum fits int64.
    """
    known = np.flatnonzero(~np.isnan(scores))
    places = None if len(known) == len(scores) else known
    mine = sizes if places is None else sizes[places]
    if unit >= int(mine.sum()):
        return len(known)
    if unit <= 0:
        return 0
    some, before, unit = _crossed(_ordered(scores if places is None else scores[places]), mine, unit)
    places = some if places is None else places[some]
    if ties == "random":
        start = premix(salt)
        upper = (identity.hashes(start, places) >> np.uint64(32)).astype(np.uint32)
        some, more, unit = _crossed(upper, sizes[places], unit)
        places, before = identity.ordered(start, places[some]), before + more
    ends = np.cumsum(sizes[places])
    return before + int(np.searchsorted(ends - sizes[places], unit, side="left"))


def _crossed(keys: NDArray[np.uint32], sizes: NDArray[np.int64], unit: int) -> tuple[NDArray[np.int64], int, int]:
    """(places with the last key that begins before `unit`, 1 or more; rows of smaller keys; `unit`, counted from that key on)."""
    key, before = -1, 0
    for _ in range(2):
        rows, units = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
        tally(keys, key, sizes, rows, units)
        begins = np.cumsum(units) - units
        last = int(np.flatnonzero((rows > 0) & (begins < unit))[-1])
        before += int(rows[:last].sum())
        unit -= int(begins[last])
        key = last if key < 0 else key << 16 | last
    return np.flatnonzero(keys == np.uint32(key)), before, unit


def _ordered(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The scores' bits as integers that sort as the numbers do; −0.0 is 0.0."""
    bits = (np.ascontiguousarray(scores, np.float32) + np.float32(0)).view(np.uint32)
    keys: NDArray[np.uint32] = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    return keys
