"""Who reads what: equal, disjoint shares of an epoch's visits, to the row, also after a resume on other ranks."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue, ResumeError

Uneven = Literal["pad", "drop"]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Place:
    """One reader among many: worker `worker` of `workers` on rank `rank` of `ranks`."""

    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.ranks and 0 <= self.worker < self.workers):
            raise InvalidValue(
                f"rank {self.rank} of {self.ranks}, worker {self.worker} of {self.workers}: both count from 0."
            )


@dataclass(frozen=True)
class Stint:
    """A stretch of an epoch that is over: what every reader of a layout had delivered when it was left.

    taken: for each rank, for each of its workers, the visits delivered.
    """

    taken: tuple[tuple[int, ...], ...]

    @property
    def ranks(self) -> int:
        """Ranks that took part."""
        return len(self.taken)

    @property
    def workers(self) -> int:
        """Workers of each rank."""
        return len(self.taken[0])

    def state(self) -> list[list[int]]:
        """As plain lists, for a checkpoint."""
        return [list(rank) for rank in self.taken]

    @classmethod
    def of(cls, state: Any) -> "Stint":
        """From `state()`. Raises ResumeError for anything else."""
        try:
            taken = tuple(tuple(int(count) for count in rank) for rank in state)
        except (TypeError, ValueError):
            taken = ()
        if not taken or not taken[0] or any(len(rank) != len(taken[0]) for rank in taken):
            raise ResumeError(f"{state!r} is no progress of ranks and workers. Load what state_dict() returned.")
        return cls(taken)


def share(total: int, place: Place, uneven: Uneven) -> tuple[int, int, int]:
    """(start, stop, padding) of a reader's share of `total` visits; `padding` more repeat the last ones.

    Ranks get equal counts: the last ones padded up, or all cut down (`uneven`). A rank's workers split its share
    to the row, so the same worker has the same count on every rank.
    """
    if uneven not in ("pad", "drop"):
        raise InvalidValue(f'uneven={uneven!r}: "pad" repeats a few visits, "drop" leaves a few out.')
    each = -(-total // place.ranks) if uneven == "pad" else total // place.ranks
    start = place.rank * each + each * place.worker // place.workers
    stop = place.rank * each + each * (place.worker + 1) // place.workers
    return min(start, total), min(stop, total), max(stop - max(start, total), 0)


def dealt(visits: int | Ints, place: Place, uneven: Uneven) -> Ints:
    """(share,) the visits a reader gets, ascending; `visits`: their number, or the (visits,) that are left."""
    total = visits if isinstance(visits, int) else len(visits)
    start, stop, padding = share(total, place, uneven)
    own = np.arange(start, stop, dtype=np.int64)
    if padding and total:
        # The visits before the end, which lie in shards that the last readers read anyway.
        own = np.sort(np.concatenate([own, total - 1 - np.arange(padding, dtype=np.int64) % total]))
    return own if isinstance(visits, int) else visits[own]
