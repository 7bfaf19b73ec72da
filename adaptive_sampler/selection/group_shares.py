"""What policies have in common that give each group a share of the epoch, or of the loss: by draws, or by loss weights."""

from typing import Any, Literal

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import draw as kernels
from adaptive_sampler.kernels import runs
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_choice, numbers_by
from adaptive_sampler.selection.draw import check_samples, samples_of
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.per_group import Ranking, settle_groups

How = Literal["draw", "weigh"]


def check_shared(groups: Any, how: Any, num_samples: Any) -> None:
    """Raise `InvalidValue` for no groups, for another `how`, and for a number of samples where none are drawn."""
    if groups is None:
        raise InvalidValue(
            "groups=None: the name of a column of the store, or (n,) labels, say which group each row is of."
        )
    check_choice("how", how, ("draw", "weigh"))
    check_samples(num_samples)
    if how == "weigh" and num_samples is not None:
        raise InvalidValue(f"num_samples={num_samples} with how='weigh', which visits every row once. Pass how='draw'.")


def settle_shared(policy: Any) -> None:
    """As `check_shared` and `settle_groups`, of a policy with the fields `groups`, `how` and `num_samples`."""
    check_shared(policy.groups, policy.how, policy.num_samples)
    settle_groups(policy)


def plan_shares(policy: Any, store: Scores, groups: Ranking, shares: np.ndarray, epoch: int, seed: int) -> Plan:
    """Each group gets its share of the draws, (groups,) float64 with sum 1, or of the loss; within it all rows are equal.

    Weights are 1 on average. Draws are independent, with replacement.
    """
    each = (shares * (len(store) / groups.numbers)).astype(np.float32)
    weights = np.empty(len(store), np.float32)
    for weight, (rows, _) in zip(each, groups.members(), strict=True):
        weights[rows] = weight
    if policy.how == "weigh":
        return make(store, policy, epoch, seed, weights=weights)
    # Not the numbers that Draw goes by: together the two would draw the same rows, not each row as often as both odds say.
    what = f"{type(policy).__name__} {getattr(policy, 'by', '')} {_told_by(groups)}"
    key = numbers_by(what, seeds.Purpose.GROUPS, epoch=epoch, seed=seed)
    number = samples_of(policy.num_samples, len(store))
    counts = kernels.multinomial_counts(weights, number, key=key, identity=store.identity)
    kept, repeats = runs.occupied(counts)
    return make(store, policy, epoch, seed, kept=kept, counts=repeats)


def _told_by(groups: Ranking) -> int:
    """A number by which groups of rows are told from others, whatever they are called and in whatever order the rows stand."""
    return checksum([np.sort(groups.sums(groups.identity.hashes(np.uint64(0)).view(np.int64)))])
