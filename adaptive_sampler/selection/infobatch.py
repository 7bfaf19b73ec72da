"""InfoBatch: drop a random share of the easy rows, and weigh the easy rows that stay more in return."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.checks import is_number, whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import bits, exact
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_by, exactly, numbers_by
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.per_group import ranking, settle_groups


@dataclass(frozen=True, eq=False)
class InfoBatch(Composable):
    """Drop a random share of the rows below the mean score, and reweight the rest of these (Qin et al. 2024).

    Of the rows whose score `by` is below the mean, a random `ratio` is dropped; the others get weight 1/(1 − ratio). How
    many stay is rounded up or down at random, so that the expected total weight is exactly n. All other rows, and rows
    never observed, are kept with weight 1. From epoch floor(`anneal`·`epochs`) on, and as long as no row was observed,
    every row is visited with weight 1. `epochs`: how many epochs the training has. `per_group`, `per_class`: as for `Prune`;
    the mean, and the share that is dropped, are then each group's own. Pass the sampler to `LossHook`, which applies the
    weights.
    """

    ratio: Varying = 0.5
    by: str = "loss"
    _: KW_ONLY
    anneal: float = 0.875
    epochs: int
    per_class: Any = None
    per_group: Any = None

    def __post_init__(self) -> None:
        check_by(self.by)
        if not is_number(self.ratio) or not 0 <= self.ratio < 1:
            raise InvalidValue(f"ratio={self.ratio!r}: the share of easy rows to drop, 0 <= ratio < 1.")
        if not is_number(self.anneal) or not 0 <= self.anneal <= 1:
            raise InvalidValue(f"anneal={self.anneal!r}: the share of epochs before all rows return, 0 <= anneal <= 1.")
        whole_number(
            "epochs", self.epochs, 1, what="how many epochs the training has", otherwise=": annealing needs it"
        )
        settle_groups(self)

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """The rows and weights of one epoch."""
        scores, groups = store[self.by], ranking(self, store)
        if epoch >= math.floor(exactly(self.anneal) * self.epochs) or not store.observed(self.by):
            return make(store, self, epoch, seed)
        easy = _below_the_mean(groups.of(scores), groups.numbers)
        key = numbers_by(self.by, seeds.Purpose.DRAW, epoch=epoch, seed=seed)
        stays = 1 - float(self.ratio)  # whose inverse half precision would round
        shares = stays * groups.sums(easy)
        stay = shares.astype(np.int64)
        stay += np.random.default_rng(key).random(len(stay)) < shares - stay
        tied = np.where(easy, np.float32(0), np.float32(np.nan))
        chosen = groups.window(tied, np.zeros_like(stay), stay, salt=key, ties="random")
        kept, easy_rows = (
            groups.kept(rows)
            for rows in (chosen | np.packbits(~easy, bitorder="little"), np.packbits(easy, bitorder="little"))
        )
        weighed_up = bits.test(easy_rows, bits.rows(kept, len(store)))
        weights = np.where(weighed_up, np.float32(1 / stays), np.float32(1))
        return make(store, self, epoch, seed, kept=kept, weights=weights if stay.any() else None)


def _below_the_mean(scores: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Which rows have a score below the mean of their group, (n,) bool; the groups lie one behind the other, so many rows each."""
    parts = np.split(scores, np.cumsum(numbers)[:-1])
    return np.concatenate([part < np.float64(exact.mean(part)) for part in parts])
