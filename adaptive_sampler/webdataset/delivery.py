"""What one rank's loader was given of an epoch, worker by worker: what a state of planned shards is made of."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from numpy.typing import NDArray

from adaptive_sampler.shards.reading.order import ShardOrder
from adaptive_sampler.shards.reading.progress import KIND, ShardProgress, merged, states_in
from adaptive_sampler.shards.reading.settings import Counts
from adaptive_sampler.shards.reading.share import Place
from adaptive_sampler.webdataset.plans import WORKERS, PublishedEpoch, shared


class ShardDelivery:
    """Lives in the trainer; a worker's copy is empty but for the table of counts, which all processes share.

    `loaded`: a state whose epoch has not begun again yet. `turn`: the worker whose batch comes next.
    """

    def __init__(self) -> None:
        self.loaded: dict[str, Any] | None = None
        self.turn = 0
        self._resume = ShardProgress()
        self._workers = 1
        self._taken: dict[int, int] = {}  # by worker, what was delivered in this epoch
        self._counts = shared(WORKERS, len(fields(Counts)))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"loaded": None}

    @property
    def counts(self) -> Counts:
        """What was read and lost in the present epoch, over all workers."""
        return Counts(*self._counts.sum(dim=0).tolist())

    def counts_of(self, worker: int) -> NDArray[Any]:
        """Where `worker` reports its counts, shared with the trainer."""
        row: NDArray[Any] = self._counts[worker % WORKERS].numpy()
        return row

    @property
    def known(self) -> bool:
        """Whether an epoch has begun here whose deliveries are counted."""
        return bool(self._taken)

    def forget(self) -> None:
        """Another epoch was set: what was delivered belongs to none."""
        self._taken = {}

    def load(self, state: Mapping[str, Any], found: list[Mapping[str, Any]]) -> None:
        """Take up `state`; `found`: the states of all readers in it, none where its epoch has not begun."""
        self.loaded, self._resume, self.turn = None, ShardProgress(), 0
        if found:
            self._resume = merged(found)[1]
            self.loaded, self.turn = dict(state) | self._resume.data(), int(state.get("turn", 0))

    def told(self) -> dict[str, Any]:
        """What the workers of the epoch that begins now are to know: where a loaded state left it."""
        progress, turn = self._resume, self.turn if self.loaded is not None else 0
        self._resume = ShardProgress()
        return {"turn": turn, "resume": progress.data()}

    def begin(self, epoch: PublishedEpoch, workers: int) -> None:
        """An epoch begins, for `workers` of a loader, or 0 where the trainer reads by itself."""
        self._workers, self._counts[:], self.turn, self.loaded = max(workers, 1), 0, epoch.more["turn"], None
        progress = ShardProgress.of(epoch.more["resume"])
        self._taken = {place.worker: progress.at(place)[1] for place in self._places(epoch)}

    def note(self, worker: int, taken: int) -> None:
        """A worker's batch was handed out; `taken`: the visits that this worker has delivered by now."""
        self._taken[worker] = taken
        self.turn = (worker + 1) % self._workers

    def note_own(self, taken: int) -> None:
        """The same where the trainer reads by itself."""
        self._taken = {0: taken}

    def progress(self, epoch: PublishedEpoch, order: ShardOrder) -> ShardProgress | None:
        """What was delivered of `epoch`; None where that is all of this rank's share."""
        places = self._places(epoch)
        past = ShardProgress.of(epoch.more["resume"]).at(places[0])[0]
        if all(self._taken.get(p.worker, 0) == len(order.own(p, past)[0]) for p in places):
            return None
        taken = {(places[0].rank, worker): count for worker, count in self._taken.items()}
        return ShardProgress(places[0].num_replicas, self._workers, taken, past)

    def _places(self, epoch: PublishedEpoch) -> list[Place]:
        rank, num_replicas = epoch.more["rank"], epoch.more["num_replicas"]
        return [Place(rank, num_replicas, worker, self._workers) for worker in range(self._workers)]


def readers_in(state: Any) -> list[Mapping[str, Any]]:
    """The readers' states in a loader's `state`, none where its epoch has not begun. Raises `ResumeError` for no state of
    ours.
    """
    found = states_in(state)
    if not found and not (isinstance(state, dict) and state.get("kind") == KIND):
        merged(found)  # raises
    return found
