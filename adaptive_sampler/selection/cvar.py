"""Learn from the worst share alone: the conditional value at risk of the loss."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_by, exactly
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.per_group import ranking, settle_groups


@dataclass(frozen=True, eq=False)
class CVaR(Composable):
    """Visit every row, with the loss weight 1 / `alpha` for the worst share `alpha` of the scores `by`, and 0 for the others.

    The weighted mean loss is then the conditional value at risk: the mean of the worst share (Rockafellar & Uryasev 2000). Of m
    observed rows alpha · m are the worst; if that is no whole number, the last of them has the part of the weight that is left,
    so that the weights are 1 on average. Of equal scores a hash of (seed, epoch, row) says which is worse. All rows are visited
    because a row that is not gets no new score; to visit the worst alone, `Prune(alpha, by)`. Rows never observed have the
    weight 1. `per_group`, `per_class`: as for `Prune`; the worst share is then each group's own.
    """

    alpha: Varying
    by: str
    _: KW_ONLY
    per_class: Any = None
    per_group: Any = None

    def __post_init__(self) -> None:
        check_by(self.by)
        if not isinstance(self.alpha, (float, np.floating)) or not 0 < self.alpha <= 1:
            raise InvalidValue(f"alpha={self.alpha!r}: the worst share, a fraction, 0 < alpha <= 1 as a float.")
        if 1 / exactly(self.alpha) > float(np.finfo(np.float32).max):
            raise InvalidValue(f"alpha={self.alpha!r}: the loss weight 1 / alpha is no float32. Take a larger share.")
        settle_groups(self)

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row with its weight; with weight 1 as long as no row was observed."""
        groups, scores = ranking(self, store), store[self.by]
        ranked, alpha = groups.sums(groups.of(~np.isnan(scores))), exactly(self.alpha)
        wanted = [alpha * rows for rows in ranked.tolist()]
        whole = np.array([math.floor(share) for share in wanted])
        salt, scores = seeds.key(seed, epoch, seeds.Purpose.TIES), groups.of(scores)
        last = np.maximum(ranked - whole - 1, 0)  # the rank of the row that has what is left
        weights = np.where(np.isnan(store[self.by]), np.float32(1), np.float32(0))
        worst = groups.kept(groups.window(scores, ranked - whole, ranked, salt=salt, ties="random"))
        weights[_bits(worst, len(store))] = float(1 / alpha)
        parted = groups.kept(groups.window(scores, last, ranked - whole, salt=salt, ties="random"))
        rest = np.array([float((share - math.floor(share)) / alpha) for share in wanted], np.float32)
        among = _bits(parted, len(store))
        for left, (rows, _) in zip(rest, groups.members(), strict=True):
            own = weights[rows]
            own[among[rows]] = left
            weights[rows] = own
        return make(store, self, epoch, seed, weights=weights)


def _bits(packed: np.ndarray, n: int) -> np.ndarray:
    return np.unpackbits(packed, count=n, bitorder="little").view(np.bool_)
