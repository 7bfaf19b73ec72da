"""Keep a random share of the rows: the baseline that every comparison needs."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.kernels import select
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_share, cut, make
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.per_class import as_labels, choose


@dataclass(frozen=True, eq=False)
class RandomPrune(Composable):
    """Keep a uniformly random share `keep` of the rows: a fraction (float) or a count (int). Each plan draws a new one.

    `per_class`: (n,) labels; `keep` then applies within each class, of which at least one row stays.
    """

    keep: float | int
    _: KW_ONLY
    per_class: Any = None

    def __post_init__(self) -> None:
        check_share("keep", self.keep)
        object.__setattr__(self, "per_class", as_labels(self.per_class))

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """A random subset, which depends only on (seed, epoch) and the labels."""

        def some(rows: Any, salt: int) -> np.ndarray:
            number = len(store) if isinstance(rows, slice) else len(rows)
            stay = cut({"keep": self.keep}, number, least=0 if self.per_class is None else 1)
            kept: np.ndarray = select.hash_window(number, 0, stay, salt=salt)
            return kept

        # Not the numbers that break ties: together with a policy whose rows tie, it would keep one end of the same order.
        share = seeds.Purpose.SHARE
        return make(store, self, epoch, seed, kept=choose(self.per_class, len(store), epoch, seed, some, share))
