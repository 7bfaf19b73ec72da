"""Keep a random share of the rows: the baseline that every comparison needs."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_share, cut
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.per_group import grouped, ranking, settle_groups
from adaptive_sampler.selection.sizes import check_size, sizes_of, totals_of


@dataclass(frozen=True, eq=False)
class RandomPrune(Composable):
    """Keep a uniformly random share `keep` of the rows: a fraction (float) or a count (int). Each plan draws a new one.

    `per_group`, `per_class`: as for `Prune`; `keep` then applies within each group, of which at least one row stays.
    `size`: as for `Prune`; rows are taken as long as the next one begins before the share of all units is full.
    """

    keep: Varying
    _: KW_ONLY
    per_class: Any = None
    per_group: Any = None
    size: str | None = None

    def __post_init__(self) -> None:
        check_share("keep", self.keep)
        check_size(self.size)
        settle_groups(self)

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """A random subset, which depends only on (seed, epoch), the rows' names and the groups."""
        # Not the numbers that break ties: together with a policy whose rows tie, it would keep one end of the same order.
        salt = seeds.key(seed, epoch, seeds.Purpose.SHARE)
        groups, least = ranking(self, store), 1 if grouped(self) else 0
        sizes = None if self.size is None else groups.of(sizes_of(store, self.size))
        all_ = (groups.numbers if sizes is None else totals_of(groups, sizes)).tolist()
        shares = {number: cut({"keep": self.keep}, number, least=least) for number in dict.fromkeys(all_)}
        stay = np.array([shares[number] for number in all_])
        if sizes is not None:
            stay = groups.ranks_at(np.zeros(len(store), np.float32), sizes, stay, salt=salt, ties="random")
        return make(store, self, epoch, seed, kept=groups.kept(groups.random(stay, salt)))
