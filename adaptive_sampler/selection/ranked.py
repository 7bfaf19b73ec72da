"""What policies have in common that keep a stretch of the ranking: rows never observed, old scores, ties, groups."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, Ties, fill, make, stale_age
from adaptive_sampler.selection.per_group import choose, grouped

# (rows in the ranking, how many of these to keep) -> the rank at which the kept ones begin, of the ascending ranking
Start = Callable[[int, int], int]


class Ranked(Protocol):
    """A policy that keeps a stretch of the ranking by the score `by`: `Prune`, `Window`, `Exclude`."""

    @property
    def by(self) -> str:
        """The score that the rows are ranked by."""

    @property
    def ties(self) -> Ties:
        """How rows of equal scores are ordered."""

    @property
    def per_class(self) -> Any:
        """(n,) labels, within whose groups the rows are ranked; None for none."""

    @property
    def per_group(self) -> Any:
        """The same, or the name of the store's column that has them; of the two one is None."""

    @property
    def max_age(self) -> int | None:
        """How many epochs old a score may be before its row comes first; None for no limit."""

    def stretch(self, n: int) -> tuple[int, Start]:
        """(budget, start) of a store, or of a group, of `n` rows.

        `budget`: how many rows are kept. Rows never observed come first, then those older than `max_age`; if they are `first`
        together, number = max(budget − first, 0) rows are left to keep of the other ranked = n − first ones. These have the
        ranks start(ranked, number) … start(ranked, number) + number − 1 in the ascending ranking.
        """


def plan_stretch(policy: Ranked, store: Scores, epoch: int, seed: int) -> Plan:
    """Every row if no row was observed yet, else a stretch of the ranking by the policy's score, of each group if it says so.

    Raises `UnknownName` for an unknown score, also before the first observation, and what `policy.stretch` and `make` raise.
    """
    scores = store[policy.by]
    if not store.observed(policy.by):
        return make(store, policy, epoch, seed)
    age = stale_age(store, policy.by, epoch, policy.max_age)
    observed = store.observed(policy.by) if not grouped(policy) else None

    salt = seeds.key(seed, epoch, seeds.Purpose.TIES)

    def within(rows: Any, identity: Identity) -> np.ndarray:
        part, old = scores[rows], None if age is None else age[rows]
        budget, start = policy.stretch(len(part))
        return fill(part, budget, start, age=old, salt=salt, ties=policy.ties, identity=identity, observed=observed)

    return make(store, policy, epoch, seed, kept=choose(policy, store, within))
