"""Visit the mistakes more often: the second stage of Just Train Twice."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np

from adaptive_sampler.checks import whole_number
from adaptive_sampler.plan import MOST_VISITS, Plan
from adaptive_sampler.selection.base import Scores, check_by, check_choice
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.made import make


@dataclass(frozen=True)
class Upsample(Composable):
    """Visit every row once, but rows whose score `by` is above 0 λ = `factor` times (Liu et al. 2021, equation 4).

    `convention="total"`: λ visits in all, as in the paper's objective. `"extra"`: λ visits beside the first one, λ + 1 in
    all, as in the reference code.
    """

    factor: Varying
    by: str = "error"
    _: KW_ONLY
    convention: Literal["total", "extra"] = "total"

    def __post_init__(self) -> None:
        check_by(self.by)
        check_choice("convention", self.convention, ("total", "extra"))
        most = MOST_VISITS - (self.convention == "extra")
        whole_number("factor", self.factor, 1, most=most, what="a whole number of occurrences")

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """All rows, with the mistakes repeated; without repeats as long as no row was observed."""
        if not store.observed(self.by):
            store[self.by]  # raises for an unknown name, also before the first observation
            return make(store, self, epoch, seed)
        times = int(self.factor) + (self.convention == "extra")
        counts = np.where(store[self.by] > 0, times, 1).astype(np.min_scalar_type(times))
        return make(store, self, epoch, seed, counts=counts)
