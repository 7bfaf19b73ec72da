"""Keep columns side by side in memory, so that an update changes only one place for each row."""

from collections.abc import Mapping

import numpy as np

from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.scoring.base import Column

Key = tuple[str, str]  # (score, column); the score is "" for the columns that the scores of a book share
WORD, LINE = 4, 64  # bytes: columns begin at multiples of a word; a processor fetches a cache line at once
TILE = 256  # records that are filled at once
NEAR = 1 << 18  # bytes of records that stay in the second-level cache while their columns are copied one after another


class Records:
    """Columns of rows 0 … n − 1, kept as one record per row.

    An update of ten separate columns would cost ten cache misses per row; one record costs one or two. `columns`: writable
    views of the columns, (n,) each. `at`: the word of the record at which each column begins. `octets`: all records as
    bytes, (n, bytes of a record) uint8, for kernels. `block`: how many records are near at once.
    """

    def __init__(self, spec: Mapping[Key, Column], n: int) -> None:
        offsets, width = _layout(spec)
        memory = _aligned(n * width)
        empty = np.zeros(width, np.uint8)
        for key, column in spec.items():
            cell = np.array([column.fill], column.dtype).view(np.uint8)
            empty[offsets[key] : offsets[key] + len(cell)] = cell
        self.octets, self.block = memory.reshape(n, width), max(NEAR // width, TILE)
        self.at = {key: offset // WORD for key, offset in offsets.items()}
        self.columns = {key: np.ndarray((n,), spec[key].dtype, memory, offsets[key], (width,)) for key in spec}
        if empty.any():
            whole = n - n % TILE  # many records per copy: copying one alone takes as long
            tiles = self.octets[:whole].reshape(-1, TILE * width).view(np.uint32)
            tiles[:] = np.tile(empty, TILE).view(np.uint32)
            self.octets[whole:] = empty

    def apart(self, start: int, stop: int) -> dict[Key, np.ndarray]:
        """Rows `start` … `stop` − 1 as one contiguous array per column: copies, or a view if there is only one column."""
        if all(column.flags.c_contiguous for column in self.columns.values()):
            return {key: column[start:stop] for key, column in self.columns.items()}
        copies = {key: np.empty(stop - start, column.dtype) for key, column in self.columns.items()}
        for low in range(start, stop, self.block):
            high = min(low + self.block, stop)
            for key, column in self.columns.items():
                copies[key][low - start : high - start] = column[low:high]
        return copies

    def mixed(self, so_far: Mapping[Key, np.ndarray]) -> dict[Key, np.ndarray]:
        """Of each column what `kernels.mix_rows` makes of its words, (words of a value,) uint32, row by row.

        `so_far`: what it made of the rows before these, of each column; {} if these are the first.
        """
        lanes = np.zeros(self.octets.shape[1] // WORD, np.uint32)
        of = {key: lanes[at : at + -(-self.columns[key].itemsize // WORD)] for key, at in self.at.items()}
        for key, before in so_far.items():
            of[key][:] = before
        kernels.mix_rows(self.octets.reshape(-1).view(np.uint32), lanes)
        return of


def _layout(spec: Mapping[Key, Column]) -> tuple[dict[Key, int], int]:
    """The byte of a record at which each column begins, and how many bytes a record has."""
    offsets, end, widest = {}, 0, WORD
    for key, column in spec.items():
        size = np.dtype(column.dtype).itemsize
        step = WORD if size <= WORD else 2 * WORD
        offsets[key] = _up(end, step)
        end, widest = offsets[key] + size, max(widest, step)
    return offsets, _filled(_up(end, widest))


def _filled(width: int) -> int:
    """`width`, rounded up to a power of two, up to `LINE`, if that adds no more than a third.

    A record of such a width never lies across two cache lines.
    """
    whole = 1 << (width - 1).bit_length()
    return whole if whole <= LINE and 3 * whole <= 4 * width else width


def _up(offset: int, step: int) -> int:
    """`offset`, rounded up to a multiple of `step`."""
    return -(-offset // step) * step


def _aligned(size: int) -> np.ndarray:
    """Zeros, (size,) uint8, that begin at the start of a cache line."""
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size]
