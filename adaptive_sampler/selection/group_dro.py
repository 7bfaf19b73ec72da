"""Attend to the groups whose losses are high: group distributionally robust optimisation."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler.checks import is_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import exact
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_by
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.group_shares import How, plan_shares, settle_shared
from adaptive_sampler.selection.per_group import Ranking, ranking


@dataclass(frozen=True, eq=False)
class GroupDRO(Composable):
    """Give each group the share q of the loss that exponentiated gradient ascent on the groups' losses gives it.

    Sagawa et al. 2020, algorithm 1: q_g ← q_g · exp(`eta` · ℓ_g), normalised, from equal shares on. Here a step is an epoch, not a
    batch, so that eta may be as many times the paper's as an epoch has batches. No q is kept: the steps add up in the exponent,
    q_g ∝ exp(`eta` · Σ ℓ_g over the epochs), and that sum is T · (the mean score `by` of the group's observations), where T is
    how often a row was observed on average over all that were, so that a group whose rows are visited more often makes no more
    steps. So a plan follows from the store alone, and a training goes on exactly.

    That is the sum exactly if the score is a row's mean loss, `Loss(fold=Mean())`, and each row was observed once an epoch. With
    the newest loss it is as if all epochs had had that. Rows never observed say nothing of their group; a group that has no
    others counts as the mean of the other groups, and before the first observation all groups are equal.

    `groups`: the name of a column of the store, or (n,) labels. `how`: "weigh", every row once with the loss weight
    q_g · n / (rows of its group); or "draw", `num_samples` rows with replacement, as for `Draw`, of each group the share q_g.
    """

    by: str
    groups: Any
    _: KW_ONLY
    eta: Varying
    how: How = "weigh"
    num_samples: Varying = None

    def __post_init__(self) -> None:
        check_by(self.by)
        settle_shared(self)
        if not is_number(self.eta) or self.eta < 0:
            raise InvalidValue(f"eta={self.eta!r}: the size of a step, a finite number, 0 or more.")

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row with its weight, or the draw. Raises `InvalidValue` for a score that is infinite."""
        groups = ranking(self, store)
        losses = self._losses(store, groups)
        with np.errstate(over="ignore"):  # to −inf, whose power is 0
            powers = np.exp(self.eta * (losses - losses.max()))
        return plan_shares(self, store, groups, powers / powers.sum(), epoch, seed)

    def _losses(self, store: Scores, groups: Ranking) -> np.ndarray:
        """The sum of each group's losses over the epochs, (groups,) float64."""
        scores = store[self.by]
        if np.isinf(scores).any():
            row = int(np.flatnonzero(np.isinf(scores))[0])
            raise InvalidValue(
                f"{self.by!r} of row {row} is {scores[row]}: a group's loss must be finite. Go by another score."
            )
        counts = np.where(np.isnan(scores), 0, store.count(self.by)).astype(np.float64)
        most = max(counts.max(), 1.0)
        parts = np.where(counts > 0, scores * (counts / most), 0.0).astype(np.float32)  # of a sum; none overflows
        found = np.full(len(groups.numbers), np.nan)
        for group, (rows, _) in enumerate(groups.members()):
            if counts[rows].any():
                found[group] = exact.summed(parts[rows]) * (most / counts[rows].sum())
        missing = np.isnan(found)
        if missing.all():
            return np.zeros_like(found)
        often = float(counts.sum() / np.count_nonzero(counts))
        return np.where(missing, found[~missing].mean(), found) * often
