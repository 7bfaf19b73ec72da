"""How often each row may be counted in an epoch of all ranks: as often as the plan visits it, however ranks are padded."""

from collections.abc import Callable

import numpy as np

from adaptive_sampler.memory.journal import Journal, visits_taken
from adaptive_sampler.plan import Plan
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.walk.epochs import PlannedEpoch


class VisitTally:
    """How often each row may still be folded in an epoch: as often as the plan visits it, so that padding has no effect.

    `key`: the plan's id, the epoch, and the position at which it was begun. `occurrences`: (n,) integers, how often each
    row is visited from that position on.
    """

    def __init__(self, key: tuple[str, int, int], occurrences: np.ndarray) -> None:
        self.key = key
        self._occurrences = occurrences
        self._left: dict[str, np.ndarray] = {}

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Mark which of `rows` are visits that are left for the score `name`, (batch,) bool, and use these visits up.

        The rows are taken in the order given.
        """
        left = self._left.setdefault(name, self._occurrences.copy())
        return visits_taken(rows, left)


def visits_left(journal: Journal, sampler: AdaptiveSampler, plan: Plan, start: int) -> VisitTally:
    """How often the plan may still visit each row, of what was left of the epoch when it was begun or resumed.

    Within an epoch, every sync goes on with the same tally.
    """
    key = _key(sampler, plan, start)
    if journal.tally is None or journal.tally.key != key:
        journal.tally = _tally(sampler, plan, key, start)
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
