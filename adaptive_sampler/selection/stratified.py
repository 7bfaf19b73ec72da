"""Cover all of the scores: as many rows of each stratum as there are, or as there is room for."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels.strata import Strata, deal_out
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import (
    Order,
    Scores,
    check_by,
    check_choice,
    check_max_age,
    check_share,
    cut,
    numbers_by,
    stale_age,
)
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.per_group import Ranking, grouped, ranking, settle_groups
from adaptive_sampler.selection.ranked import come_first

_MOST = 2**16  # strata
_CELLS = 2**31  # strata of all groups together are fewer: int32 numbers them


@dataclass(frozen=True, eq=False)
class Stratified(Composable):
    """Keep a share of the rows that covers all scores: as many of each stratum as of the others, while it has them.

    Coverage-centric selection (Zheng et al. 2023, algorithm 1). First the hardest rows are left out, a share `skip_hardest` of
    all (the paper's β). The range of the other scores `by` is cut into `strata` of equal width. The budget of `keep` rows is dealt
    out from the stratum with the fewest rows (of equal ones, that of the lower scores) to that with the most; each gets its even
    part of what is left, rounded down, or all its rows if it has no more. Within a stratum the rows are chosen at random: those
    with the smallest hashes of (seed, epoch, row), of its key where the store has keys.

    `keep`, `skip_hardest`: fractions f (float), of floor(f·n + ½) rows, or counts (int), together all rows at most. `hardest`: at
    which end of the scores the hardest rows are, "highest" as of EL2N, or "lowest" as of a margin. The range is that of the finite
    scores; −inf lies in its lowest stratum, inf in its highest one. Rows never observed, and rows older than `max_age` epochs,
    are kept first, as with `Prune`; the strata are those of the other rows. `per_group`, `per_class`: as for `Prune`; ranges,
    strata and shares are then each group's own, of which at least one row stays.
    """

    keep: Varying
    by: str
    _: KW_ONLY
    strata: Varying = 50
    skip_hardest: Varying = 0.0
    hardest: Order = "highest"
    per_class: Any = None
    max_age: Varying = None
    per_group: Any = None

    def __post_init__(self) -> None:
        check_by(self.by)
        check_share("keep", self.keep)
        check_share("skip_hardest", self.skip_hardest, zero=True)
        whole_number("strata", self.strata, 1, most=_MOST, what="a number of strata")
        check_choice("hardest", self.hardest, ("highest", "lowest"))
        check_max_age(self.max_age)
        settle_groups(self)
        fractions = [share for share in (self.keep, self.skip_hardest) if isinstance(share, float)]
        if len(fractions) == 2 and sum(fractions) > 1 + 1e-9:
            raise InvalidValue(
                f"skip_hardest={self.skip_hardest} + keep={self.keep} is {sum(fractions):g}: more than there is. Keep at most "
                f"{1 - self.skip_hardest:g}."
            )

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row if no row was observed yet, else the share that covers the scores.

        Raises `InvalidValue` for counts that are more rows than there are, and for 2³¹ strata of all groups together.
        """
        scores, groups = store[self.by], ranking(self, store)
        if len(groups.numbers) * self.strata >= _CELLS:
            raise InvalidValue(
                f"strata={self.strata} of each of {len(groups.numbers)} groups are {_CELLS} or more. Cut fewer strata, or "
                "larger groups."
            )
        if not store.observed(self.by):
            return make(store, self, epoch, seed)
        scores, salt = groups.of(scores), seeds.key(seed, epoch, seeds.Purpose.TIES)
        age = stale_age(store, self.by, epoch, self.max_age)
        budgets, skipped = self._shares(groups.numbers)
        first = come_first(
            groups,
            scores,
            budgets.tolist(),
            age=None if age is None else groups.of(age),
            salt=salt,
            observed=store.observed(self.by),
        )
        hardest = self._hardest(groups, first.scores, np.array(first.ranked), skipped, salt)
        # Not the numbers that break ties or that RandomPrune goes by: together they would keep one end of the same order.
        salt = numbers_by(self.by, seeds.Purpose.STRATA, epoch=epoch, seed=seed)
        bounds = np.concatenate([[0], np.cumsum(groups.numbers)])
        told: dict[str, Any] = {"salt": salt, "identity": groups.identity, "hidden": hardest}
        strata = Strata(first.scores, bounds, int(self.strata), **told)
        chosen = strata.some(allocated(strata.counts, np.array(first.number)))
        return make(
            store, self, epoch, seed, kept=groups.kept(chosen if first.forced is None else chosen | first.forced)
        )

    def _shares(self, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many rows are kept, and how many are left out as the hardest, of groups of so many rows; both int64."""
        least, found = 1 if grouped(self) else 0, {}
        for n in dict.fromkeys(totals.tolist()):
            kept = cut({"keep": self.keep}, n, least=least)
            both = cut({"keep": self.keep, "skip_hardest": self.skip_hardest}, n, least=kept)
            found[n] = kept, both - kept
        kept, skipped = np.array([found[n] for n in totals.tolist()]).T
        return kept, skipped

    def _hardest(
        self, groups: Ranking, scores: np.ndarray, ranked: np.ndarray, skipped: np.ndarray, salt: int
    ) -> np.ndarray | None:
        """The `skipped` hardest of the `ranked` rows of each group, packed; None for none."""
        if not skipped.any():
            return None
        skipped = np.minimum(skipped, ranked)
        low, high = (np.zeros_like(ranked), skipped) if self.hardest == "lowest" else (ranked - skipped, ranked)
        return groups.window(scores, low, high, salt=salt, ties="random")


def allocated(counts: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """How many rows each stratum gives, (groups, strata) int64, of the `counts` that it has, (groups, strata).

    From the stratum with the fewest rows on, each gives its even part, rounded down, of what is left of its group's budget, or all.
    `budgets`: (groups,).
    """
    given = np.empty_like(counts)
    deal_out(np.argsort(counts, axis=1, kind="stable"), counts, budgets, given)
    return given
