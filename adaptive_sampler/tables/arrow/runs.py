"""Integers that each are one more than the one before, as row numbers mostly are: they need not be read again."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from adaptive_sampler.kernels import tally


class Run:
    """Whether the integers of a column are a run."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._next: int | None = None  # None: they are none

    @property
    def first(self) -> int | None:
        """The first of them; None if they are no run."""
        return None if self._next is None else self._first

    def add(self, array: Any) -> None:
        """Look at the next ones, an Int64Array."""
        if not len(array) or (self._next is None and self._first is not None):
            return
        values = array.to_numpy(zero_copy_only=False)
        if self._first is None:
            self._first = self._next = int(values[0]) if not array.null_count else 0
        goes_on = not array.null_count and int(values[0]) == self._next and tally.ascends_by_one(values)
        self._next = int(values[-1]) + 1 if goes_on else None


def runs_made(firsts: dict[str, int], start: int, stop: int) -> dict[str, Any]:
    """The columns of runs that begin so, from one line up to before another: name -> Int64Array."""
    return {name: pa.array(np.arange(start, stop) + first) for name, first in firsts.items()}


def batches_made(firsts: dict[str, int], lines: int, at_once: int) -> Iterator[Any]:
    """Record batches of such columns alone."""
    for start in range(0, lines, at_once):
        yield pa.record_batch(runs_made(firsts, start, min(start + at_once, lines)))
