"""Draw rows with probability proportional to a score: weighted sampling, as for L2RW."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import bits, weigh
from adaptive_sampler.kernels import draw as kernels
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_by, make
from adaptive_sampler.selection.composed import Composable


@dataclass(frozen=True)
class Draw(Composable):
    """Draw `num_samples` rows (None: as many as the store has), each with probability p proportional to its score `by`.

    `floor`: the share of the draw that is uniform: p = (1 − floor)·s/Σs + floor/n. A row never observed counts as if it
    had the mean score of the others. `unbiased`: each sample gets the loss weight 1/(n·p), so that the expected loss is
    that of uniform sampling. `replacement=False`: each row is drawn at most once, one row after another, as
    torch.multinomial does. Scores must be finite and not negative. If all scores are 0, the draw is uniform if `floor` > 0,
    and an error otherwise.
    """

    by: str
    num_samples: int | None = None
    _: KW_ONLY
    replacement: bool = True
    floor: float = 0.0
    unbiased: bool = False

    def __post_init__(self) -> None:
        check_by(self.by)
        if not 0 <= self.floor <= 1:
            raise InvalidValue(f"floor={self.floor!r}: the share drawn uniformly, 0 <= floor <= 1.")
        if self.num_samples is not None:
            whole_number("num_samples", self.num_samples, 1, otherwise=", or None for the store's rows")
        if self.unbiased and not self.replacement:
            raise InvalidValue(
                "unbiased=True with replacement=False: 1/(n·p) is the weight of independent draws. Draw with replacement."
            )

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row once if no row was observed yet, else the draw.

        Raises `InvalidValue` for a score that is negative or infinite, for scores that are all 0 without a `floor`, and
        without replacement for more samples than there are rows with a positive weight.
        """
        n, key = len(store), seeds.key(seed, epoch, seeds.Purpose.DRAW)
        number = n if self.num_samples is None else int(self.num_samples)
        if not store.observed(self.by):
            store[self.by]  # raises for an unknown name, also before the first observation
            return make(store, self, epoch, seed)
        weights, positive = self._probabilities(store[self.by])
        if not self.replacement:
            if number > positive:
                raise InvalidValue(
                    f"num_samples={number} without replacement, but only {positive} rows have a positive {self.by!r}. "
                    "Draw fewer, or set floor above 0."
                )
            return make(store, self, epoch, seed, kept=kernels.sample_without_replacement(weights, number, key=key))
        counts = kernels.multinomial_counts(weights, number, key=key)
        return make(store, self, epoch, seed, **self._drawn(counts, weights))

    def _probabilities(self, scores: np.ndarray) -> tuple[np.ndarray, int]:
        """The weights of the rows, (n,) float32, and how many of them are positive. With replacement, their mean is 1."""
        total, known, positive, bad = weigh.survey(scores)
        if bad >= 0:
            raise InvalidValue(
                f"{self.by!r} of row {bad} is {scores[bad]}: a score to draw by must be finite and not negative. "
                "Draw by another score, or prune by this one."
            )
        if total == 0 and self.floor == 0:
            raise InvalidValue(
                f"every observed {self.by!r} is 0, so nothing can be drawn. Set floor above 0 to draw uniformly where "
                "there is nothing to choose by."
            )
        if total == 0:
            return np.ones(len(scores), np.float32), len(scores)
        if not self.replacement and self.floor == 0 and known == len(scores):
            return scores, positive  # a common factor would not change the draw
        return weigh.weigh(scores, total / known, self.floor)

    def _drawn(self, counts: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
        """The arrays of the plan, from how often each row was drawn, (n,)."""
        kept, repeats = bits.occupied(counts)
        arrays: dict[str, Any] = {"kept": kept, "counts": repeats}
        if self.unbiased:
            p = weights[counts > 0] / weights.mean(dtype=np.float64)  # n·p
            arrays["weights"] = (1 / p).astype(np.float32)
        return arrays
