"""What policies have in common that keep a stretch of the ranking: rows never observed, old scores, ties, groups."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection import sizes as sized
from adaptive_sampler.selection.base import Scores, Ties, fill, make, stale_age
from adaptive_sampler.selection.per_group import choose, grouped
from adaptive_sampler.selection.sizes import sizes_of, total_of

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
        """(budget, start) of a store, or of a group, of `n` rows; or of `n` units, in which the others are then told, too.

        `budget`: how many rows are kept. Rows never observed come first, then those older than `max_age`; if they are `first`
        together, number = max(budget − first, 0) rows are left to keep of the other ranked = n − first ones. These have the
        ranks start(ranked, number) … start(ranked, number) + number − 1 in the ascending ranking.
        """


def plan_stretch(
    policy: Ranked, store: Scores, epoch: int, seed: int, *, size: str | None = None, never_none: bool = False
) -> Plan:
    """Every row if no row was observed yet, else a stretch of the ranking by the policy's score, of each group if it says so.

    `size`: the column or score whose units `policy.stretch` is asked in; None: rows. `never_none`: whether a row of each group
    stays where `size` would leave none. Raises `UnknownName` for an unknown score, also before the first observation, and what
    `policy.stretch`, `sizes_of` and `make` raise.
    """
    scores = store[policy.by]
    sizes = None if size is None else sizes_of(store, size)
    if not store.observed(policy.by):
        return make(store, policy, epoch, seed)
    age = stale_age(store, policy.by, epoch, policy.max_age)
    observed = store.observed(policy.by) if not grouped(policy) else None

    salt = seeds.key(seed, epoch, seeds.Purpose.TIES)

    def within(rows: Any, identity: Identity) -> np.ndarray:
        part, old = scores[rows], None if age is None else age[rows]
        told: dict[str, Any] = {"age": old, "salt": salt, "ties": policy.ties, "identity": identity}
        if sizes is not None:
            stretch = policy.stretch(total_of(sizes, rows))
            return sized.fill(part, sizes[rows], *stretch, **told, never_none=never_none)
        budget, start = policy.stretch(len(part))
        return fill(part, budget, start, **told, observed=observed)

    return make(store, policy, epoch, seed, kept=choose(policy, store, within))
