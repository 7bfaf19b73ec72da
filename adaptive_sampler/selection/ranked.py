"""What policies have in common that keep a stretch of the ranking: rows never observed, old scores, ties, classes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, fill, make, stale_age
from adaptive_sampler.selection.per_class import choose

# The number of rows -> how many of them to keep, and where the stretch begins, as `fill` takes it.
Stretch = Callable[[int], tuple[int, Callable[[int, int], int]]]


def plan_stretch(policy: Any, store: Scores, epoch: int, seed: int, stretch: Stretch) -> Plan:
    """Every row if no row was observed yet, else a stretch of the ranking by the policy's score, of each class if it says so.

    policy: has the fields `by`, `ties`, `per_class` and `max_age` of `Prune`. Raises `UnknownName` for an unknown score, also
    before the first observation, and what `stretch` and `make` raise.
    """
    scores = store[policy.by]
    if not store.observed(policy.by):
        return make(store, policy, epoch, seed)
    age = stale_age(store, policy.by, epoch, policy.max_age)
    observed = store.observed(policy.by) if policy.per_class is None else None

    def within(rows: Any, salt: int) -> np.ndarray:
        part, old = scores[rows], None if age is None else age[rows]
        budget, start = stretch(len(part))
        return fill(part, budget, start, age=old, salt=salt, ties=policy.ties, observed=observed)

    return make(store, policy, epoch, seed, kept=choose(policy.per_class, len(store), epoch, seed, within))
