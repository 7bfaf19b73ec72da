"""The order in which an epoch visits a plan: it depends only on the plan and a key, and can be read at any position."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import bits as bitmaps
from adaptive_sampler.kernels.runs import Runs
from adaptive_sampler.kernels.shuffle import Network, Shuffle, few, shuffle_few

# Up to this many visits, a shuffled array is made at the first take: 4 bytes per visit, exactly uniform, and the
# fastest to read. For more visits, positions go through a keyed permutation, which needs no preparation. If rows
# repeat, looking up a position takes longer, so the array is worth its memory up to a higher bound. The bounds are
# part of the format: they are compared only with sizes, so a seed gives the same order on every machine.
MATERIALISE = 1 << 26
MATERIALISE_REPEATED = 1 << 27
_PIECE = 1 << 20  # rows handled at a time, so that temporary arrays stay small beside the bitmap


class Order:
    """An epoch's visits: every kept row, `repeats` times, shuffled by `key`, or ascending if `key` is None.

    `n`: rows of the data set. `bits`: (ceil(n / 8),) uint8 in little bit order, 1 for a kept row; None if all are kept. `kept`:
    how many rows are kept, if that is known.
    `repeats`: (kept rows,) integers of at least 1, for the kept rows in ascending order; None if all are 1. The arrays are
    not copied and must not change. Nothing is shuffled before the first `take`. Raises `InvalidValue` for arrays of
    another length.
    """

    def __init__(
        self,
        n: int,
        bits: NDArray[np.uint8] | None,
        repeats: NDArray[Any] | None = None,
        *,
        key: int | None,
        kept: int | None = None,
    ) -> None:
        if bits is not None and len(bits) != -(-n // 8):
            raise InvalidValue(f"bits has {len(bits)} bytes, n={n} rows need {-(-n // 8)}. Pass one bit a row.")
        self._n, self._bits, self._repeats, self._key = n, bits, repeats, key
        if kept is None:
            kept = n if bits is None else bitmaps.count(bits)
        if repeats is not None and len(repeats) != kept:
            raise InvalidValue(f"repeats has {len(repeats)} entries for {kept} kept rows. Pass one for each.")
        self._kept = kept
        self._total = kept if repeats is None else int(repeats.sum(dtype=np.int64))

    def __len__(self) -> int:
        return self._total

    def take(self, start: int, stop: int, step: int = 1) -> NDArray[Any]:
        """The rows at positions start, start + step, … below both stop and the length.

        Returns int32, or int64 if n >= 2**31, which must not be written to. Raises `InvalidValue` for a negative start
        or a step below 1.
        """
        if start < 0 or step < 1:
            raise InvalidValue(f"start={start}, step={step}: positions count up from 0. Pass start >= 0, step >= 1.")
        stop = min(stop, self._total)
        if start >= stop:
            return np.empty(0, bitmaps.row_dtype(self._n))
        most = MATERIALISE if self._repeats is None else MATERIALISE_REPEATED
        if self._key is not None and self._total <= most:
            return self._shuffled[start:stop:step]
        if self._network is not None:
            return self._rows(self._network.images(start, stop, step))
        return self._rows(np.arange(start, stop, step, dtype=np.int64))

    def _rows(self, occurrences: NDArray[np.int64]) -> NDArray[Any]:
        """The rows at these places in the ascending list of all visits."""
        entries = occurrences if self._runs is None else self._runs.locate(occurrences)
        if self._index is not None:
            return self._index.select(entries)
        return entries.astype(bitmaps.row_dtype(self._n))

    @cached_property
    def _network(self) -> Network | None:
        return None if self._key is None else Network(self._total, key=self._key)

    @cached_property
    def _runs(self) -> Runs | None:
        return None if self._repeats is None else Runs(self._repeats)

    @cached_property
    def _index(self) -> bitmaps.Index | None:
        return None if self._bits is None else bitmaps.Index(self._bits, self._n)

    @cached_property
    def _shuffled(self) -> NDArray[Any]:
        """All rows in their order; read-only, as views of it are returned."""
        assert self._key is not None
        rows = self._in_order(self._key)
        rows.flags.writeable = False
        return rows

    def _in_order(self, key: int) -> NDArray[Any]:
        if few(self._total):
            rows = self._piece(0, self._n, self._kept)
            rows = rows if self._repeats is None else np.repeat(rows, self._repeats.astype(np.int64))
            shuffle_few(rows, key=key)
            return rows
        shuffle = Shuffle(self._total, bitmaps.row_dtype(self._n), key=key)
        if self._bits is not None and self._repeats is None:
            shuffle.add_kept(self._bits)
        else:
            self._add_pieces(shuffle)
        return shuffle.finish()

    def _add_pieces(self, shuffle: Shuffle) -> None:
        done = 0
        for first in range(0, self._n, _PIECE):
            rows = self._piece(first, min(first + _PIECE, self._n))
            times = None if self._repeats is None else self._repeats[done : done + len(rows)]
            shuffle.add(rows, times)
            done += len(rows)

    def _piece(self, first: int, last: int, number: int | None = None) -> NDArray[Any]:
        """The kept rows from `first`, a multiple of 8, to `last` - 1, ascending; `number`: how many these are, if known."""
        if self._bits is None:
            return np.arange(first, last, dtype=bitmaps.row_dtype(self._n))
        return bitmaps.narrow_rows(self._bits[first >> 3 : -(-last // 8)], self._n, first=first, number=number)
