"""A table has one line for a row: which rows its lines have named so far, and where a row came first."""

from collections.abc import Callable
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import bits


class NamedOnce:
    """Which of rows 0 … n − 1 the lines of the table `found` have named so far: a bit for each.

    `kinds`: the one column that names rows, with its kind; `rows_of`: what it holds -> (lines,) int64.
    """

    def __init__(self, n: int, found: Any, kinds: dict[str, Any], rows_of: Callable[[Any], np.ndarray]) -> None:
        self._n, self._found, self._kinds, self._rows_of = n, found, kinds, rows_of
        self._bits = np.zeros(-(-n // 8), np.uint8)

    def first_bad(self, rows: np.ndarray) -> int:
        """Note the rows of the next lines -> −1; or the first that is outside, or was named before: its position."""
        return bits.mark(self._bits, self._n, rows)

    def twice(self, place: str, row: int, called: str, remedy: str) -> InvalidValue:
        """The error for a row that was named before. `place`: where it is named again; `called`: what messages call it.

        The table is read again, up to where the row came first.
        """
        from adaptive_sampler.tables.arrow import columns as arrow  # it needs PyArrow

        (column,) = self._kinds
        for chunk in arrow.read(self._found, self._kinds):
            here = np.flatnonzero(self._rows_of(chunk.columns[column]) == row)
            if len(here):
                return InvalidValue(f"{place}: {called} comes twice, at first in {chunk.at(here[0])}. {remedy}")
        return InvalidValue(
            f"{place}: {called} came twice, and once now: the table was changed meanwhile. Read it again."
        )
