"""Keep a random share of the rows: the baseline that every comparison needs."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.kernels import select
from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.kernels.sized import rank_at
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_share, cut, make
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.per_group import choose, grouped, settle_groups
from adaptive_sampler.selection.sizes import check_size, sizes_of, total_of


@dataclass(frozen=True, eq=False)
class RandomPrune(Composable):
    """Keep a uniformly random share `keep` of the rows: a fraction (float) or a count (int). Each plan draws a new one.

    `per_group`, `per_class`: as for `Prune`; `keep` then applies within each group, of which at least one row stays.
    `size`: as for `Prune`; rows are taken as long as the next one begins before the share of all units is full.
    """

    keep: float | int
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

        sizes = None if self.size is None else sizes_of(store, self.size)

        def some(rows: Any, identity: Identity) -> np.ndarray:
            number = len(identity)
            all_ = number if sizes is None else total_of(sizes, rows)
            stay = cut({"keep": self.keep}, all_, least=1 if grouped(self) else 0)
            if sizes is not None:
                equal = np.zeros(number, np.float32)
                stay = rank_at(equal, sizes[rows], stay, salt=salt, ties="random", identity=identity)
            kept: np.ndarray = select.hash_window(number, 0, stay, salt=salt, identity=identity)
            return kept

        return make(store, self, epoch, seed, kept=choose(self, store, some))
