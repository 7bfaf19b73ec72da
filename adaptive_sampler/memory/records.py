"""Columns side by side in memory: what an update changes of one row lies in one place."""

from collections.abc import Mapping

import numpy as np

from adaptive_sampler.scoring.base import Column

Key = tuple[str, str]  # score (or "", for what its scores share) and column
WORD, LINE = 4, 64  # bytes: where a column may begin, and what a processor fetches at once
TILE = 256  # records
BLOCK = 4096  # records that stay in the second-level cache while column after column is copied from them


class Records:
    """Columns of rows 0 … n − 1, a record a row: ten columns apart would be ten cache misses a row, one record is one or two.

    `columns`: (n,) each, writable views of the records. `at`: the word at which each begins. `octets` (n, bytes): all of
    it, for kernels.
    """

    def __init__(self, spec: Mapping[Key, Column], n: int) -> None:
        offsets, width = _layout(spec)
        memory = _aligned(n * width)
        empty = np.zeros(width, np.uint8)
        for key, column in spec.items():
            cell = np.array([column.fill], column.dtype).view(np.uint8)
            empty[offsets[key] : offsets[key] + len(cell)] = cell
        self.octets = memory.reshape(n, width)
        self.at = {key: offset // WORD for key, offset in offsets.items()}
        self.columns = {key: np.ndarray((n,), spec[key].dtype, memory, offsets[key], (width,)) for key in spec}
        if empty.any():
            whole = n - n % TILE  # many records at once: a copy of one alone costs as much
            tiles = self.octets[:whole].reshape(-1, TILE * width).view(np.uint32)
            tiles[:] = np.tile(empty, TILE).view(np.uint32)
            self.octets[whole:] = empty

    def apart(self, start: int, stop: int) -> dict[Key, np.ndarray]:
        """Rows `start` … `stop` − 1, a contiguous array a column; a lone column as it is, others copied."""
        if all(column.flags.c_contiguous for column in self.columns.values()):
            return {key: column[start:stop] for key, column in self.columns.items()}
        copies = {key: np.empty(stop - start, column.dtype) for key, column in self.columns.items()}
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            for key, column in self.columns.items():
                copies[key][low - start : high - start] = column[low:high]
        return copies


def _layout(spec: Mapping[Key, Column]) -> tuple[dict[Key, int], int]:
    """Where each column begins, and the bytes of a record."""
    offsets, end, widest = {}, 0, WORD
    for key, column in spec.items():
        size = np.dtype(column.dtype).itemsize
        step = WORD if size <= WORD else 2 * WORD
        offsets[key] = _up(end, step)
        end, widest = offsets[key] + size, max(widest, step)
    return offsets, _filled(_up(end, widest))


def _filled(width: int) -> int:
    """A power of two where that adds no more than a third: then no record of up to a line lies across two of them."""
    whole = 1 << (width - 1).bit_length()
    return whole if whole <= LINE and 3 * whole <= 4 * width else width


def _up(offset: int, step: int) -> int:
    return -(-offset // step) * step


def _aligned(size: int) -> np.ndarray:
    """(size,) uint8 zeros that begin where a cache line does."""
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size]
