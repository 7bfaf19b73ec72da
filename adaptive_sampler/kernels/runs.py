"""Rows visited more than once: which of them the q-th occurrence belongs to, without expanding them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.bits import Index
from adaptive_sampler.kernels.jit import kernel


@kernel
def _last(repeats: Any, words: Any) -> None:
    """Set the bit of each entry's last occurrence."""
    at = np.int64(-1)
    for i in range(repeats.size):
        at += np.int64(repeats[i])
        words[at >> 6] |= np.uint64(1) << np.uint64(at & 63)


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
