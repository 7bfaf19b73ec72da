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


@dataclass(frozen=True)
class Draw:
    """`num_samples` rows (None: as many as there are), p ∝ score `by`.

    `floor`: the share that is drawn uniformly, p = (1 − floor)·s/Σs + floor/n. Rows never observed count as the mean of
    the others. `unbiased`: each sample's loss weight is 1/(n·p), so that the expected loss is that of uniform sampling.
    `replacement=False` draws each row at most once (successively, as torch.multinomial). Scores must be finite and not
    negative; if all are 0 the draw is uniform where `floor` > 0, else an error.
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
        """Everything where nobody was observed yet, else the draw. Raises `InvalidValue` for scores that are no weights."""
        n, key = len(store), seeds.key(seed, epoch, seeds.Purpose.DRAW)
        number = n if self.num_samples is None else int(self.num_samples)
        if not store.observed(self.by):
            store[self.by]
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
        """(n,) float32 weights, in a draw with replacement of mean 1, and how many of them are positive."""
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
            return scores, positive  # as they are: who comes first does not depend on a scale
        return weigh.weigh(scores, total / known, self.floor)

    def _drawn(self, counts: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
        kept, repeats = bits.occupied(counts)
        arrays: dict[str, Any] = {"kept": kept, "counts": repeats}
        if self.unbiased:
            p = weights[counts > 0] / weights.mean(dtype=np.float64)  # n·p
            arrays["weights"] = (1 / p).astype(np.float32)
        return arrays
