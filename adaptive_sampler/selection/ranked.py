"""What policies have in common that keep a stretch of the ranking: rows never observed, old scores, ties, groups."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.kernels.select import without
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection import sizes as sized
from adaptive_sampler.selection.base import Scores, Ties, stale_age
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.per_group import Ranking, ranking
from adaptive_sampler.selection.sizes import Start, Stretches, budgets, sizes_of, starts, totals_of


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
    def max_age(self) -> Any:
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
    stays where `size` would leave none. Raises `UnknownName` for an unknown score or column, also before the first observation,
    and what `policy.stretch`, `ranking`, `sizes_of` and `make` raise.
    """
    scores, groups = store[policy.by], ranking(policy, store)
    sizes = None if size is None else sizes_of(store, size)
    if not (observed := store.observed(policy.by)):
        return make(store, policy, epoch, seed)
    age = stale_age(store, policy.by, epoch, policy.max_age)
    told: dict[str, Any] = {"age": None if age is None else groups.of(age), "ties": policy.ties}
    told["salt"] = seeds.key(seed, epoch, seeds.Purpose.TIES)
    if sizes is None:
        stretches = stretches_of(policy, groups.numbers.tolist())
        kept = fill(groups, groups.of(scores), stretches, **told, observed=observed)
    else:
        sizes = groups.of(sizes)
        stretches = stretches_of(policy, totals_of(groups, sizes).tolist())
        kept = sized.fill(groups, groups.of(scores), sizes, stretches, **told, never_none=never_none)
    return make(store, policy, epoch, seed, kept=groups.kept(kept))


def stretches_of(policy: Ranked, totals: list[int]) -> list[tuple[int, Start]]:
    """`policy.stretch` of each group, which have so many rows, or units."""
    found = {total: policy.stretch(total) for total in dict.fromkeys(totals)}
    return [found[total] for total in totals]


def fill(
    groups: Ranking,
    scores: np.ndarray,
    stretches: Stretches,
    *,
    age: np.ndarray | None,
    salt: int,
    ties: Ties,
    observed: int,
) -> np.ndarray:
    """Choose from each group, as its stretch says: first the rows that `come_first`, then a window of the ranking, which has the
    remaining rows, in ascending order of their scores.

    `stretches`: (budget, start) of each group, as `Ranked.stretch` returns it; `ties`: how those of the window are ordered; the
    others: as `come_first` takes them. Returns packed bits, (ceil(n / 8),) uint8, in the order of `groups`.
    """
    first = come_first(groups, scores, budgets(stretches), age=age, salt=salt, observed=observed)
    low = starts(stretches, first.ranked, first.number)
    high = [begin + number for begin, number in zip(low, first.number, strict=True)]
    best = groups.window(first.scores, low, high, salt=salt, ties=ties)
    return best if first.forced is None else best | first.forced


class First(NamedTuple):
    """Which rows of each group come before any ranking, and what is left to choose from."""

    forced: np.ndarray | None
    """The rows that come first: packed bits, (ceil(n / 8),) uint8, or None for none."""
    scores: np.ndarray
    """The scores, (n,), which are NaN for these rows."""
    ranked: list[int]
    """How many other rows each group has."""
    number: list[int]
    """How many of these are left to keep."""


def come_first(
    groups: Ranking, scores: np.ndarray, budget: list[int], *, age: np.ndarray | None, salt: int, observed: int
) -> First:
    """All rows never observed, and as far as the `budget` of their group goes, the oldest by `age`.

    `scores`, `age` (as `stale_age` returns it): (n,), in the order of `groups`. `salt`: seeds random ties. `observed`: how many
    rows have a score. More than its budget is chosen of a group only if more of its rows were never observed.
    """
    if observed == len(scores) and age is None:  # the usual case, in which nothing comes first
        return First(None, scores, groups.numbers.tolist(), budget)
    unseen = np.isnan(scores)
    forced, ranked = np.packbits(unseen, bitorder="little"), groups.numbers - groups.sums(unseen)
    number = np.maximum(budget - (groups.numbers - ranked), 0)
    if age is not None:
        old = groups.sums(~np.isnan(age))
        some = np.minimum(old, number)
        oldest = groups.window(age, old - some, old, salt=salt, ties="random")
        scores, forced = without(scores, oldest), forced | oldest
        ranked, number = ranked - some, number - some
    return First(forced, scores, ranked.tolist(), number.tolist())
