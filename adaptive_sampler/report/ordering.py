"""The rows in the order of a score, as policies rank them; from it, exact counts of what any cut would keep."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.kernels import ranks
from adaptive_sampler.kernels.select import premix
from adaptive_sampler.selection.base import cut
from adaptive_sampler.store import ScoreStore

STEPS = 100  # of a slider, from none to all
_BINS = 40
_WIDE = 5.0  # times the range of all but 0.2 % of the rows: beyond, the outermost bins hold the rest


class Ends(NamedTuple):
    """For each step p of the sliders, (steps + 1,) int64 each, three ranks.

    `low`: the first of a window that skips p %; `high`: the one after the last of a window that reaches to p %; `top`: the first of
    the highest p %, which is not where a window begins that skips the rest, as each rounds its own share.
    """

    low: np.ndarray
    high: np.ndarray
    top: np.ndarray


@dataclass(frozen=True)
class Ordered:
    """One score of a store. `rows`: (m,) int64, those with a score, ascending by it, equal ones as in plans of seed 0 in
    epoch 0; `scores`: (m,) float32, theirs; `n`: rows of the store.
    """

    name: str
    n: int
    rows: np.ndarray
    scores: np.ndarray

    @property
    def unobserved(self) -> int:
        """How many rows have no score."""
        return self.n - len(self.rows)

    @property
    def finite(self) -> np.ndarray:
        """The finite scores, ascending: a view."""
        first, last = np.searchsorted(self.scores, [-np.inf, np.inf], "right")[0], np.searchsorted(self.scores, np.inf)
        return self.scores[first:last]

    def edges(self) -> np.ndarray:
        """The edges of the bins of a histogram, (bins + 1,) float64."""
        finite = self.finite.astype(np.float64)
        low, high = finite[0], finite[-1]
        most = np.quantile(finite, [0.001, 0.999])
        if high - low > _WIDE * (most[1] - most[0]) > 0:
            low, high = most
        return np.histogram_bin_edges([low, high], _BINS)

    def ends(self) -> Ends:
        """Where the sliders' cuts lie. Rows without a score come first in every plan: they shorten ranking and window alike."""
        at = np.array([cut({"share": step / STEPS}, self.n) for step in range(STEPS + 1)])
        ranked = len(self.rows)
        high = np.clip(at - self.unobserved, 0, ranked)
        return Ends(np.minimum(at, ranked), high, ranked - high)

    def before(self, members: np.ndarray, number: int) -> Ends:
        """How many rows of each class have a rank below each of `ends()`: (number, steps + 1) int64 each.

        `members`: (n,) class numbers, below `number`.
        """
        ends = self.ends()
        borders, places = np.unique(np.concatenate(ends), return_inverse=True)
        inside = np.repeat(np.arange(len(borders) + 1), np.diff(borders, prepend=0, append=len(self.rows)))
        cells = members[self.rows] * (len(borders) + 1) + inside
        table = np.bincount(cells, minlength=number * (len(borders) + 1)).reshape(number, len(borders) + 1)
        return Ends(*np.split(table.cumsum(1)[:, places], len(ends), axis=1))


def order(store: ScoreStore, name: str) -> Ordered:
    """The rows in the order of the score `name`."""
    scores = store[name]
    rows = ranked(store, scores)
    return Ordered(name, len(store), rows, scores[rows])


def ranked(store: ScoreStore, scores: np.ndarray) -> np.ndarray:
    """The rows that have a score, ascending by it, (m,) int64. `scores`: of the store's rows or of its first ones."""
    rows = np.flatnonzero(~np.isnan(scores))
    keys, places = ranks.ordered(ranks.sort_keys(scores[rows]))
    if (keys[1:] == keys[:-1]).any():
        start = premix(seeds.key(0, 0, seeds.Purpose.TIES))
        rows = store.identity.ordered(start, rows)  # of equal scores, a stable sort leaves this order
        _, places = ranks.ordered(ranks.sort_keys(scores[rows]))
    return rows[places]
