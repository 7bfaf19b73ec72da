"""How often each row may be counted in an epoch of all ranks: as often as the plan visits it, however ranks are padded."""

from collections.abc import Callable
from typing import Any

import numpy as np

from adaptive_sampler.memory.journal import Journal, visits_taken
from adaptive_sampler.plan import Plan
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.walk.epochs import PlannedEpoch


class VisitTally:
    """How often each row may still be folded in an epoch: as often as the plan visits it, so that padding has no effect.

    `key`: the plan's id, the epoch, and the position at which it was begun. `occurrences`: (n,) integers, how often each
    row is visited from that position on, or from a later one.
    """

    def __init__(self, key: tuple[str, int, int], occurrences: np.ndarray) -> None:
        self.key = key
        self._occurrences = occurrences
        self._left: dict[str, np.ndarray] = {}
        self._taken: dict[str, int] = {}

    @property
    def told(self) -> list[Any]:
        """The plan's id, the epoch, and how many of its visits are left to be folded: what a commit keeps of it."""
        return [*self.key[:2], int(self._occurrences.sum()) - max(self._taken.values(), default=0)]

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Mark which of `rows` are visits that are left for the score `name`, (batch,) bool, and use these visits up.

        The rows are taken in the order given.
        """
        left = self._left.setdefault(name, self._occurrences.copy())
        mine = visits_taken(rows, left)
        self._taken[name] = self._taken.get(name, 0) + int(mine.sum())
        return mine


def visits_left(journal: Journal, sampler: AdaptiveSampler, plan: Plan, start: int) -> VisitTally:
    """How often the plan may still visit each row, of what was left of the epoch when it was begun or resumed.

    Within an epoch, every sync goes on with the same tally. The first one of a store that was committed within this epoch goes on
    with what was left then: a loader may draw again, and skip by itself, what came between its snapshot and that commit.
    """
    key = _key(sampler, plan, start)
    if journal.tally is None or journal.tally.key != key:
        left = None if journal.tally is not None else _left_at_commit(sampler, key)
        length = sampler.num_samples or plan.num_samples
        journal.tally = _tally(sampler, plan, key, start if left is None else max(start, length - left))
    tally: VisitTally = journal.tally
    return tally


def skipped_by_loop(sampler: AdaptiveSampler, position: int) -> None:
    """Note that the loop itself skips the epoch's samples before `position`, which were counted before it was resumed.

    For a loop that has the sampler begin the epoch at its start. Otherwise the rows that pad the epoch's end, which come
    from its start, would be counted as the visits that the loop skips. To be called once the plan is loaded.
    """
    journal, plan = sampler.store.session.journal, sampler.fixed_plan
    if journal is not None and plan is not None:
        journal.tally = _tally(sampler, plan, _key(sampler, plan, sampler.start), position)


def walked_otherwise(sampler: AdaptiveSampler, rows_left: Callable[[], np.ndarray]) -> None:
    """Note the visits that are left of the epoch, for a resumed loop whose order is not the sampler's.

    `rows_left`: called on ranks only, it returns the row of each such visit, (visits,). To be called once the epoch has begun.
    """
    journal, plan = sampler.store.session.journal, sampler.fixed_plan
    if journal is not None and plan is not None:
        journal.tally = _counted(_key(sampler, plan, sampler.start), np.bincount(rows_left(), minlength=plan.n))


def _left_at_commit(sampler: AdaptiveSampler, key: tuple[str, int, int]) -> int | None:
    """How many visits of this epoch were left when the store was committed; None if it was not in the midst of it."""
    plan, epoch, left = sampler.store.session.meta.get("walked") or (None, None, None)
    return left if (plan, epoch) == key[:2] else None


def _key(sampler: AdaptiveSampler, plan: Plan, start: int) -> tuple[str, int, int]:
    return plan.id, plan.epoch if sampler.replan == "epoch" else sampler.epoch, start


def _tally(sampler: AdaptiveSampler, plan: Plan, key: tuple[str, int, int], position: int) -> VisitTally:
    """A tally of the visits from `position` of the epoch on."""
    occurrences, length = plan.repeats, sampler.num_samples or plan.num_samples
    if position or length != plan.num_samples:
        walk = PlannedEpoch(plan, key[1], seed=sampler.seed, shuffle=sampler.shuffle, length=length)
        occurrences = np.bincount(walk.take(position, length), minlength=plan.n)
    return _counted(key, occurrences)


def _counted(key: tuple[str, int, int], occurrences: np.ndarray) -> VisitTally:
    return VisitTally(key, occurrences.astype(np.min_scalar_type(int(occurrences.max(initial=0)))))
