"""The order of an epoch: shards are shuffled, then each reader shuffles within a window, by seed, epoch and place."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.kernels.window import window_order
from adaptive_sampler.seeds import Purpose, key
from adaptive_sampler.shards.reading.kept import Kept
from adaptive_sampler.shards.reading.share import Place, Stint, dealt

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ShardOrder:
    """The visits of one epoch, numbered from 0 in the order in which the shuffled shards contain them.

    window: how many visits the shuffling buffer of each reader holds; 0 shuffles neither shards nor visits.
    drop_last: ranks get equal counts: True leaves out a few visits, False repeats a few.
    length: the number of visits of the epoch: the plan is cut off there, or repeated until there. None: the plan's own.
    index: the digest of the index whose rows these are.
    Raises InvalidValue for a negative window.
    """

    kept: Kept
    seed: int
    epoch: int
    window: int = 1000
    drop_last: bool = False
    length: int | None = None
    index: str = ""

    def __post_init__(self) -> None:
        if self.window < 0:
            raise InvalidValue(f"window={self.window}: a buffer of samples, or 0 for no shuffling.")

    def __len__(self) -> int:
        """How many visits the epoch has, over all readers."""
        return len(self.kept) if self.length is None or not len(self.kept) else self.length

    @cached_property
    def shards(self) -> Ints:
        """(shards,) the shards' numbers, in the order in which they are read."""
        count = len(self.kept.bounds) - 1
        if not self.window:
            return np.arange(count)
        return np.random.default_rng(key(self.seed, self.epoch, Purpose.SHARDS)).permutation(count)

    @cached_property
    def _ends(self) -> Ints:
        """(shards,) the number of visits up to and including each shard of `shards`."""
        return np.cumsum(np.diff(self.kept.bounds)[self.shards])

    def places(self, visits: Ints) -> Ints:
        """The position in `kept.rows` of each visit's row: (visits,) -> (visits,)."""
        visits = visits % max(len(self.kept), 1)
        nth = np.searchsorted(self._ends, visits, side="right")
        shard = self.shards[nth]
        counts = self.kept.bounds[shard + 1] - self.kept.bounds[shard]
        return self.kept.places(visits - (self._ends[nth] - counts) + self.kept.bounds[shard])

    def own(self, place: Place, past: Sequence[Stint] = ()) -> tuple[Ints, Ints]:
        """One reader's visits: (share,) their numbers, ascending, and (share,) their order out of its buffer.

        `past`: the stints of this epoch that are over. The visits that they delivered are not assigned again.
        Raises ResumeError if a stint says that a reader delivered more visits than it had.
        """
        visits = dealt(self._left(past), place, self.drop_last)
        if not self.window:
            return visits, np.arange(len(visits))
        address = key(self.seed, self.epoch, Purpose.SHARDS, len(past), place.rank, place.worker, place.num_workers)
        return visits, window_order(len(visits), self.window, np.uint64(address))

    def rows_left(self, past: Sequence[Stint]) -> NDArray[Any]:
        """(visits,) the rows of the visits that the stints of `past` have not delivered."""
        left = self._left(past)
        return self.kept.rows[self.places(np.arange(left) if isinstance(left, int) else left)]

    def _left(self, past: Sequence[Stint]) -> int | Ints:
        if not past:
            return len(self)
        left = np.ones(len(self), bool)
        for nth, stint in enumerate(past):
            for rank, workers in enumerate(stint.taken):
                for worker, taken in enumerate(workers):
                    place = Place(rank, stint.num_replicas, worker, stint.num_workers)
                    visits, order = self.own(place, past[:nth])
                    check_taken(taken, len(visits), place)
                    left[visits[order[:taken]]] = False
        return np.flatnonzero(left)


def check_taken(taken: int, visits: int, place: Place) -> None:
    """Raise ResumeError unless a reader that has `visits` visits can have delivered `taken` of them."""
    if not 0 <= taken <= visits:
        raise ResumeError(
            f"the state says that rank {place.rank}, worker {place.worker} delivered {taken} of its {visits} visits. Load it "
            "with the plan, seed and window it was saved under."
        )
