"""One epoch as a sequence of rows that any process can have, for loaders that ask for the i-th row, not the next."""

from collections.abc import Callable
from typing import Any, overload

import numpy as np

from adaptive_sampler.errors import RowError
from adaptive_sampler.plan import Plan
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.walk.epochs import PlannedEpoch


class EpochRows:
    """The rows of an epoch whose plan is fixed: `rows[i]` is an int, `rows[a:b]` an array of int32 or int64.

    Made by `AdaptiveSampler.epoch_rows`. It is pickled as the store's path and the plan's id, so a worker process reads
    the plan, but no scores. Raises `RowError` for an index outside the epoch.
    """

    def __init__(self, reopen: Callable[[], ScoreStore], plan: Plan, walk: dict[str, Any]) -> None:
        """`reopen` opens the store for reading, in any process. `walk`: the other arguments of `PlannedEpoch`."""
        self._reopen, self._plan, self._walk = reopen, plan, walk
        self._epoch = PlannedEpoch(plan, **walk)

    def __len__(self) -> int:
        return len(self._epoch) - self._epoch.start

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> np.ndarray: ...

    def __getitem__(self, index: int | slice) -> int | np.ndarray:
        first = self._epoch.start
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            rows = self._epoch.take(first + start, first + max(start, stop)) if step > 0 else self[:][index]
            return rows[::step].copy() if step > 0 else rows  # a copy: the epoch's own array must not change
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise RowError(f"position {index} of an epoch of {len(self)} samples: count from 0.")
        return int(self._epoch.take(first + at, first + at + 1)[0])

    def __repr__(self) -> str:
        """The same text for the same rows: Grain compares it when it resumes."""
        walk = ", ".join(f"{name}={value}" for name, value in sorted(self._walk.items()))
        return f"EpochRows(plan={self._plan.id}, {walk})"

    def __reduce__(self) -> tuple[Callable[..., "EpochRows"], tuple[Callable[[], ScoreStore], str, dict[str, Any]]]:
        return _restored, (self._reopen, self._plan.id, self._walk)


def _restored(reopen: Callable[[], ScoreStore], plan_id: str, walk: dict[str, Any]) -> EpochRows:
    """What unpickling calls: the sequence, with the plan read from the store."""
    with reopen() as store:
        return EpochRows(reopen, store.plan(plan_id), walk)
