"""Counts what one rank's loader has delivered of an epoch, worker by worker, for the states of planned shards."""

from collections.abc import Mapping
from dataclasses import fields
from reprlib import repr as short
from typing import Any

from numpy.typing import NDArray

from adaptive_sampler.checks import is_whole
from adaptive_sampler.errors import ResumeError
from adaptive_sampler.shards.reading.order import ShardOrder
from adaptive_sampler.shards.reading.progress import KIND, ShardProgress, merged, states_in
from adaptive_sampler.shards.reading.settings import Counts
from adaptive_sampler.shards.reading.share import Place
from adaptive_sampler.webdataset.plans import WORKERS, PublishedEpoch, shared


class ShardDelivery:
    """What one rank's loader has delivered of the present epoch. It is kept in the trainer, the process that trains.

    A worker uses its copy only to write into the table of counts, which all processes share.
    `loaded`: a loaded state whose epoch has not begun again yet. `turn`: the worker whose batch comes next. `over`:
    whether the loop over the epoch has ended; None if no loader of ours reports it.
    """

    def __init__(self) -> None:
        self.loaded: dict[str, Any] | None = None
        self.turn = 0
        self.over: bool | None = None
        self._resume = ShardProgress()
        self._workers = 1
        self._taken: dict[int, int] = {}  # worker -> visits delivered in this epoch
        self._counts = shared(WORKERS, len(fields(Counts)))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"loaded": None}

    @property
    def counts(self) -> Counts:
        """What was read and lost in the present epoch, summed over all workers."""
        return Counts(*self._counts.sum(dim=0).tolist())

    def counts_of(self, worker: int) -> NDArray[Any]:
        """The row of the shared table into which `worker` writes its counts: int64, in the order of `Counts`."""
        row: NDArray[Any] = self._counts[worker % WORKERS].numpy()
        return row

    @property
    def known(self) -> bool:
        """Whether an epoch has begun in this process, so that its deliveries are counted."""
        return bool(self._taken)

    def forget(self) -> None:
        """Forget what was delivered, because another epoch was set."""
        self._taken = {}

    def load(self, state: Mapping[str, Any], found: list[Mapping[str, Any]]) -> None:
        """Load `state`. `found`: the readers' states in it, empty if its epoch has not begun."""
        self.loaded, self._resume, self.turn = None, ShardProgress(), 0
        if found:
            self._resume = merged(found)[1]
            self.loaded, self.turn = dict(state) | self._resume.data(), int(state.get("turn", 0))

    def told(self) -> dict[str, Any]:
        """What the workers of the next epoch must know: the position of a state that was loaded for it."""
        progress, turn = self._resume, self.turn if self.loaded is not None else 0
        self._resume = ShardProgress()
        return {"turn": turn, "resume": progress.data()}

    def begin(self, epoch: PublishedEpoch, workers: int) -> None:
        """Note that an epoch begins. `workers`: how many workers the loader has, 0 if the trainer itself reads."""
        self._workers, self._counts[:], self.turn, self.loaded = max(workers, 1), 0, epoch.more["turn"], None
        self.over = None
        progress = ShardProgress.of(epoch.more["resume"])
        self._taken = {place.worker: progress.at(place)[1] for place in self._places(epoch)}

    def note(self, worker: int, taken: int) -> None:
        """Note that a batch of `worker` was delivered. `taken`: the visits that this worker has delivered so far."""
        self._taken[worker], self.over = taken, False
        self.turn = (worker + 1) % self._workers

    def note_own(self, taken: int) -> None:
        """Note the visits delivered so far, if the trainer itself reads."""
        self._taken = {0: taken}

    def progress(self, epoch: PublishedEpoch, order: ShardOrder) -> tuple[ShardProgress, bool]:
        """What was delivered of `epoch`, and whether that is the whole share of this rank."""
        places = self._places(epoch)
        past = ShardProgress.of(epoch.more["resume"]).at(places[0])[0]
        whole = all(self._taken.get(p.worker, 0) == len(order.own(p, past)[0]) for p in places)
        taken = {(places[0].rank, worker): count for worker, count in self._taken.items()}
        return ShardProgress(places[0].num_replicas, self._workers, taken, past), whole

    def _places(self, epoch: PublishedEpoch) -> list[Place]:
        rank, num_replicas = epoch.more["rank"], epoch.more["num_replicas"]
        return [Place(rank, num_replicas, worker, self._workers) for worker in range(self._workers)]


def readers_in(state: Any) -> list[Mapping[str, Any]]:
    """The readers' states in a loader's `state`; empty if its epoch has not begun.

    Raises ResumeError if `state` is not a state of this package, or one that nobody can go on from.
    """
    found = states_in(state)
    kind = state.get("kind") if isinstance(state, dict) else None
    if found or not isinstance(kind, str) or kind != KIND:
        first, progress = merged(found)  # raises
        if not is_whole(first.get("turn", 0), most=progress.num_workers - 1):
            raise ResumeError(
                f"the state is damaged: turn={short(first['turn'])} of {progress.num_workers} workers. Load what state_dict() "
                "returned."
            )
    return found
