"""Keep a random share: the baseline that every figure needs."""

from dataclasses import dataclass

from adaptive_sampler.kernels import select
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_share, cut, make, ties_salt


@dataclass(frozen=True)
class RandomPrune:
    """A uniformly random `keep` of the rows (a fraction as float, a count as int), another one each epoch of planning."""

    keep: float | int

    def __post_init__(self) -> None:
        check_share("keep", self.keep)

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """A random subset that depends on (seed, epoch) alone."""
        number = cut({"keep": self.keep}, len(store))
        return make(
            store, self, epoch, seed, kept=select.hash_window(len(store), 0, number, salt=ties_salt(epoch, seed))
        )
