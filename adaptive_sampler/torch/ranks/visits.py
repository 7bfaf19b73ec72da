"""How often each row may be counted in a pass of all ranks: as often as the plan visits it, however ranks are padded."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.memory.journal import Journal, visits_taken
from adaptive_sampler.plan import Plan
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.walk.epochs import PlannedEpoch


class EpochWalk(NamedTuple):
    """One epoch of one sampler: its plan's id, its order and length, and the position at which it was begun or resumed."""

    plan: str
    epoch: int
    shuffled: bool
    length: int
    start: int


class VisitTally:
    """How often each row may still be folded in a pass: as often as the plan visits it, so that padding has no effect.

    `occurrences`: (n,) integers, how often each row is visited from the walk's start on, or from a later position. A row
    that the plan does not visit at all is no padding: something else observed it, and it may be folded at any time.
    """

    def __init__(self, walk: EpochWalk, plan: Plan, occurrences: np.ndarray) -> None:
        self.walk = walk
        self._plan, self._occurrences = plan, occurrences
        self._left: dict[str, np.ndarray] = {}
        self._taken: dict[str, int] = {}

    @property
    def told(self) -> list[Any]:
        """The walk but for its start, and how many of its visits are left to be folded: what a commit keeps of it."""
        return [*self.walk[:-1], int(self._occurrences.sum()) - max(self._taken.values(), default=0)]

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Mark which of `rows` are no padding for the score `name`, (batch,) bool, and use these visits up.

        The rows are taken in the order given.
        """
        left = self._left.setdefault(name, self._occurrences.copy())
        mine = visits_taken(rows, left)
        self._taken[name] = self._taken.get(name, 0) + int(mine.sum())
        if self._plan.kept is not None and not mine.all():
            mine |= self._plan.repeats_of(rows) == 0
        return mine


class PassTallies:
    """How often rows may be counted in each pass of a sampler that a sync folds.

    Within a pass, every sync goes on with the same tally, whatever other samplers were synced in between. Each pass that was begun
    since has all its visits, also if it walks the same epoch. The first one of a process that was resumed within this epoch goes
    on with what was left at the commit: a loader may draw again, and skip by itself, what came between its snapshot and that.
    """

    def __init__(self, journal: Journal, sampler: AdaptiveSampler, plan: Plan, start: int, headers: np.ndarray) -> None:
        """`start`: of a pass that has no updates; `headers`: those of all ranks, as of `headers_of`, which say the rest."""
        self._sampler, self._plan = sampler, plan
        self._passes, self._kept = journal.passes_by(sampler), journal.kept
        told = headers[(headers[:, :, 0] > 0) & (headers[:, :, 3] >= 0), 3:]
        # Of a pass that ranks say to have begun at several positions, all that any of them may have visited counts.
        self._starts = {int(nth): int(told[told[:, 0] == nth, 1].min()) for nth in np.unique(told[:, 0])} or {0: start}
        self._found: dict[int, VisitTally] = {}

    def of(self, nth: int) -> VisitTally | None:
        """The tally of the sampler's pass `nth`, as of `Journal.passes_of`; None for what is no part of a pass."""
        if nth >= 0 and nth not in self._found:
            self._found[nth] = self._made(nth)
        return self._found.get(nth)

    def ended(self) -> None:
        """Have the next sync go on with the last pass of which a rank had updates."""
        last = max(self._starts)
        self._passes.ended(last, self.of(last))

    def _made(self, nth: int) -> VisitTally:
        start = self._starts[nth]
        walk = _walk(self._sampler, self._plan, start)
        known: VisitTally | None = self._passes.tally
        if nth == 0 and known is not None and known.walk == walk:
            return known
        left = _left_at_commit(self._kept, walk) if nth == 0 and known is None else None
        return _tally(self._sampler, self._plan, walk, start if left is None else max(start, walk.length - left))


def skipped_by_loop(sampler: AdaptiveSampler, position: int) -> None:
    """Note that the loop itself skips the epoch's samples before `position`, which were counted before it was resumed.

    For a loop that has the sampler begin the epoch at its start. Otherwise the rows that pad the epoch's end, which come
    from its start, would be counted as the visits that the loop skips. To be called once the plan is loaded.
    """
    journal, plan = sampler.store.session.journal, sampler.fixed_plan
    if journal is not None and plan is not None:
        journal.go_on(sampler, _tally(sampler, plan, _walk(sampler, plan, sampler.start), position))


def walked_otherwise(sampler: AdaptiveSampler, rows_left: Callable[[], np.ndarray]) -> None:
    """Note the visits that are left of the epoch, for a resumed loop whose order is not the sampler's.

    `rows_left`: called on ranks only, it returns the row of each such visit, (visits,). To be called once the epoch has begun.
    """
    journal, plan = sampler.store.session.journal, sampler.fixed_plan
    if journal is not None and plan is not None:
        walk = _walk(sampler, plan, sampler.start)
        journal.go_on(sampler, _counted(walk, plan, np.bincount(rows_left(), minlength=plan.n)))


def _left_at_commit(walks: list[Any], walk: EpochWalk) -> int | None:
    """How many visits of this epoch were left at a commit, which keeps `walks`; None if the sampler was not in the midst of it.

    Samplers that walk one plan are not told apart: of theirs it is that of the one that had come least far beyond the walk's start.
    """
    lefts = [left for *committed, left in walks if committed == list(walk[:-1])]
    return max((left for left in lefts if left <= walk.length - walk.start), default=None)


def _walk(sampler: AdaptiveSampler, plan: Plan, start: int) -> EpochWalk:
    epoch = plan.epoch if sampler.replan == "epoch" else sampler.epoch
    return EpochWalk(plan.id, epoch, sampler.shuffle, sampler.num_samples or plan.num_samples, start)


def _tally(sampler: AdaptiveSampler, plan: Plan, walk: EpochWalk, position: int) -> VisitTally:
    """A tally of the visits from `position` of the epoch on."""
    occurrences, length = plan.repeats, walk.length
    if position or length != plan.num_samples:
        epoch = PlannedEpoch(plan, walk.epoch, seed=sampler.seed, shuffle=sampler.shuffle, length=length)
        occurrences = np.bincount(epoch.take(position, length), minlength=plan.n)
    return _counted(walk, plan, occurrences)


def _counted(walk: EpochWalk, plan: Plan, occurrences: np.ndarray) -> VisitTally:
    return VisitTally(walk, plan, occurrences.astype(np.min_scalar_type(int(occurrences.max(initial=0)))))
