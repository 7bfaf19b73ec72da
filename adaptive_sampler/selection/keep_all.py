"""Keep everything: the plan of ordinary training, of warm-up, and of a store without scores."""

from dataclasses import dataclass

from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.made import make


@dataclass(frozen=True)
class KeepAll(Composable):
    """Visit every row once."""

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """All rows of the store."""
        return make(store, self, epoch, seed)
