"""Rows visited more than once: which of them the q-th occurrence belongs to, without expanding them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel

_BLOCK_SHIFT = 6  # entries a block: their repeats are summed one by one
_HINT_SHIFT = 7  # occurrences a hint


@kernel
def _index(repeats: Any, before: Any, hints: Any) -> Any:
    """before[b]: occurrences ahead of block b.  hints[h]: the block that holds occurrence 128·h."""
    total = np.int64(0)
    h = 0
    for b in range(before.size - 1):
        before[b] = total
        for i in range(b << _BLOCK_SHIFT, min((b + 1) << _BLOCK_SHIFT, repeats.size)):
            total += np.int64(repeats[i])
        while h < hints.size and h << _HINT_SHIFT < total:
            hints[h] = b
            h += 1
    before[before.size - 1] = total
    while h < hints.size:
        hints[h] = max(before.size - 2, 0)
        h += 1


@kernel
def _locate(repeats: Any, before: Any, hints: Any, at: Any, out: Any) -> Any:
    for i in range(at.size):
        q = np.int64(at[i])
        low = np.int64(hints[q >> _HINT_SHIFT])
        high = np.int64(hints[(q >> _HINT_SHIFT) + 1])
        while low < high:  # the last block with before <= q
            middle = (low + high + 1) >> 1
            if before[middle] <= q:
                low = middle
            else:
                high = middle - 1
        left = q - before[low]
        entry = low << _BLOCK_SHIFT
        while left >= np.int64(repeats[entry]):
            left -= np.int64(repeats[entry])
            entry += 1
        out[i] = entry


class Runs:
    """An index of repeats, (m,) integers of at least 1, kept by reference: about 0.2 bytes an entry."""

    def __init__(self, repeats: NDArray[Any]) -> None:
        self._repeats = repeats
        self.total = int(repeats.sum(dtype=np.int64))
        self._before = np.empty(-(-len(repeats) >> _BLOCK_SHIFT) + 1, np.int64)
        narrow = np.int32 if len(self._before) < 2**31 else np.int64
        self._hints = np.empty((self.total >> _HINT_SHIFT) + 2, narrow)
        _index(repeats, self._before, self._hints)

    def locate(self, occurrences: NDArray[Any]) -> NDArray[np.int64]:
        """The entries to which these occurrences belong, each in [0, total), in the ascending multiset."""
        out = np.empty(len(occurrences), np.int64)
        _locate(self._repeats, self._before, self._hints, occurrences, out)
        return out
