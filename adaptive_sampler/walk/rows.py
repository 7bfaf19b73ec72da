"""One epoch as a sequence of rows that any process can hold: for loaders that ask for the i-th instead of the next."""

from collections.abc import Callable
from typing import Any, overload

import numpy as np

from adaptive_sampler.errors import RowError
from adaptive_sampler.plan import Plan
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.walk.epochs import PlannedEpoch


class EpochRows:
    """`rows[i]`, an int, and `rows[a:b]`, an array, of an epoch whose plan is fixed. Made by `AdaptiveSampler.epoch_rows`.

    Pickles as the store's path and the plan's id, so a worker process reads its rows and no scores.
    """

    def __init__(self, reopen: Callable[[], ScoreStore], plan: Plan, walk: dict[str, Any]) -> None:
        """`reopen`: opens the store to read, in whichever process."""
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
            return rows[::step].copy() if step > 0 else rows  # the epoch's own are not to be written to
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise RowError(f"position {index} of an epoch of {len(self)} samples: count from 0.")
        return int(self._epoch.take(first + at, first + at + 1)[0])

    def __repr__(self) -> str:
        """The same for the same rows, which Grain compares when it resumes."""
        walk = ", ".join(f"{name}={value}" for name, value in sorted(self._walk.items()))
        return f"EpochRows(plan={self._plan.id}, {walk})"

    def __reduce__(self) -> tuple[Callable[..., "EpochRows"], tuple[Callable[[], ScoreStore], str, dict[str, Any]]]:
        return _restored, (self._reopen, self._plan.id, self._walk)


def _restored(reopen: Callable[[], ScoreStore], plan_id: str, walk: dict[str, Any]) -> EpochRows:
    with reopen() as store:
        return EpochRows(reopen, store.plan(plan_id), walk)
