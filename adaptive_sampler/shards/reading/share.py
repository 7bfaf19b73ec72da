"""Divides an epoch's visits among readers: equal counts for all ranks, also after a resume with other ranks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue, ResumeError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Place:
    """One reader among many: worker `worker` of `num_workers` on rank `rank` of `num_replicas`.

    Raises InvalidValue for a rank or worker that is not below its number.
    """

    rank: int = 0
    num_replicas: int = 1
    worker: int = 0
    num_workers: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.num_replicas and 0 <= self.worker < self.num_workers):
            raise InvalidValue(
                f"rank {self.rank} of {self.num_replicas}, worker {self.worker} of {self.num_workers}: both count from 0."
            )


@dataclass(frozen=True)
class Stint:
    """A finished part of an epoch, read by one layout of ranks and workers: what each reader delivered in it.

    taken: for each rank, for each of its workers, the number of visits delivered.
    """

    taken: tuple[tuple[int, ...], ...]

    @property
    def num_replicas(self) -> int:
        """How many ranks took part."""
        return len(self.taken)

    @property
    def num_workers(self) -> int:
        """How many workers each rank had."""
        return len(self.taken[0])

    def state(self) -> list[list[int]]:
        """The stint as plain lists, for a checkpoint."""
        return [list(rank) for rank in self.taken]

    @classmethod
    def of(cls, state: Any) -> "Stint":
        """The stint from its `state()`. Raises ResumeError for anything else."""
        try:
            taken = tuple(tuple(int(count) for count in rank) for rank in state)
        except (TypeError, ValueError):
            taken = ()
        if not taken or not taken[0] or any(len(rank) != len(taken[0]) for rank in taken):
            raise ResumeError(f"{state!r} is no progress of ranks and workers. Load what state_dict() returned.")
        return cls(taken)


def share(total: int, place: Place, drop_last: bool) -> tuple[int, int, int]:
    """A reader's share of `total` visits -> (start, stop, padding): visits start … stop − 1, and `padding` repeats.

    Ranks get equal counts: the last ranks repeat visits, or with `drop_last` the remainder is left out. The workers of
    a rank divide its share as evenly as possible, and a worker has the same count on every rank.
    """
    each = total // place.num_replicas if drop_last else -(-total // place.num_replicas)
    start = place.rank * each + each * place.worker // place.num_workers
    stop = place.rank * each + each * (place.worker + 1) // place.num_workers
    return min(start, total), min(stop, total), max(stop - max(start, total), 0)


def dealt(visits: int | Ints, place: Place, drop_last: bool) -> Ints:
    """(share,) a reader's visits, ascending. `visits`: how many there are, or (visits,) those that are left."""
    total = visits if isinstance(visits, int) else len(visits)
    start, stop, padding = share(total, place, drop_last)
    own = np.arange(start, stop, dtype=np.int64)
    if padding and total:
        # The last visits are repeated, because they lie in shards that the last readers read anyway.
        own = np.sort(np.concatenate([own, total - 1 - np.arange(padding, dtype=np.int64) % total]))
    return own if isinstance(visits, int) else visits[own]
