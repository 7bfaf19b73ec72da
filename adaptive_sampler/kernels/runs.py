"""Rows visited more than once: which they are, and to which of them the q-th occurrence belongs, without expanding them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.bits import Bits, Index
from adaptive_sampler.kernels.jit import kernel


@kernel
def _last(repeats: Any, words: Any) -> None:
    """Set the bit of each entry's last occurrence."""
    at = np.int64(-1)
    for i in range(repeats.size):
        at += np.int64(repeats[i])
        words[at >> 6] |= np.uint64(1) << np.uint64(at & 63)


@kernel
def _occupied(counts: Any, words: Any) -> Any:
    """The bitmap of counts that are not 0, which move to the front of `counts`; returns how many these are."""
    m = np.int64(0)
    for w in range(words.size):
        some = counts[w << 6 : (w << 6) + 64]
        word = np.uint64(0)
        for i in range(some.size):
            word |= np.uint64(some[i] != 0) << np.uint64(i)
        words[w] = word
        for i in range(some.size):  # no branch to mispredict
            counts[m] = some[i]
            m += np.int64(some[i] != 0)
    return m


def occupied(counts: NDArray[Any]) -> tuple[Bits, NDArray[Any]]:
    """(bits, repeats) of a count for each row: the rows that have one, (ceil(n/8),) uint8, and how many each.

    `counts`, an array that owns its memory and is used up, becomes the repeats, (kept,), in row order.
    """
    words = np.empty(-(-len(counts) // 64), np.uint64)
    kept = int(_occupied(counts, words))
    bits = words.astype("<u8", copy=False).view(np.uint8)[: -(-len(counts) // 8)]
    counts.resize(kept, refcheck=False)
    return bits, counts


class Runs:
    """An index of repeats, (m,) integers of at least 1: 0.18 bytes an occurrence (0.23 from 2**32 on).

    A bitmap of each entry's last occurrence: an occurrence belongs to the entry before which so many others ended.
    """

    def __init__(self, repeats: NDArray[Any]) -> None:
        self.total = int(repeats.sum(dtype=np.int64))
        words = np.zeros(-(-self.total // 64), np.uint64)
        _last(repeats, words)
        bits = words.astype("<u8", copy=False).view(np.uint8)[: -(-self.total // 8)]
        self._ended = Index(bits, self.total)

    def locate(self, occurrences: NDArray[Any]) -> NDArray[np.int64]:
        """The entries to which these occurrences belong, each in [0, total), in the ascending multiset."""
        return self._ended.rank(occurrences)
