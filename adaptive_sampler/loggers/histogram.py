"""The histogram of a score, binned some rows at a time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many rows have which score. `counts`: (bins,) int64; `edges`: (bins + 1,) float64, the bins' limits, of equal widths.

    `min`, `max`, `sum`, `sum_squares`: of the values, which are `num` in number; rows that were never observed and infinite values
    are not among them.
    """

    counts: np.ndarray
    edges: np.ndarray
    min: float
    max: float
    sum: float
    sum_squares: float

    @property
    def num(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())


def histogram(blocks: Callable[[], Iterable[np.ndarray]], bins: int) -> Histogram | None:
    """The histogram of all finite values, as `numpy.histogram` makes it; None if there are none.

    `blocks()`: the values, some at a time, (rows,) float32; it is called twice.
    """
    num, low, high, total, squares = 0, np.inf, -np.inf, 0.0, 0.0
    for values in map(_finite, blocks()):
        if len(values):
            num, low, high = num + len(values), min(low, values.min()), max(high, values.max())
            total, squares = total + float(values.sum()), squares + float(values @ values)
    if not num:
        return None
    beside = 0.0 if low < high else max(0.5, abs(low) * 2.0**-20)  # NumPy's 0.5 is nothing beside 2⁵⁰
    reach = low - beside, high + beside
    parts = [np.histogram(_finite(values), bins, reach) for values in blocks()]
    return Histogram(
        np.sum([counts for counts, _ in parts], axis=0), parts[0][1], float(low), float(high), total, squares
    )


def _finite(values: np.ndarray) -> np.ndarray:
    """The finite values as float64: between neighbours in float32 there is no edge of a bin."""
    finite = np.isfinite(values)
    return (values if finite.all() else values[finite]).astype(np.float64)
