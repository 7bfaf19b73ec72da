"""One pass of one process over its share of an epoch: in a loader's worker, or in the trainer itself."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, replace
from typing import Any, Protocol

from torch.utils.data import get_worker_info
from webdataset.utils import PipelineStage

from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.reading.order import ShardOrder
from adaptive_sampler.shards.reading.progress import KIND, ShardProgress, check_same, merged, states_in
from adaptive_sampler.shards.reading.settings import Counts, ShardReading
from adaptive_sampler.shards.reading.share import Place
from adaptive_sampler.shards.reading.walk import Walk
from adaptive_sampler.shards.reading.wanted import Raw
from adaptive_sampler.webdataset.delivery import ShardDelivery
from adaptive_sampler.webdataset.plans import Plans, PublishedEpoch

Stage = Callable[[Iterator[Any]], Iterable[Any]]

_OFTEN = 256  # samples between two reports of the counts


class Streamed(Protocol):
    """What a stream needs from the planned shards that made it."""

    index: ShardIndex
    stages: tuple[Stage, ...]
    reading: ShardReading
    plans: Plans
    delivery: ShardDelivery

    def begin(self, workers: int) -> PublishedEpoch: ...
    def order(self, epoch: PublishedEpoch) -> ShardOrder: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> None: ...


class Account:
    """What a stream has delivered, and where; it outlives the stream."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = weakref.ref(stream)
        self.place = Place()
        self.walk: Walk | None = None

    @property
    def begun(self) -> bool:
        """Whether the first draw has been made."""
        return self.walk is not None

    @property
    def taken(self) -> int:
        """How many visits were delivered, including those before a resume."""
        return 0 if self.walk is None else self.walk.taken

    @property
    def let_go(self) -> bool:
        """Whether nobody holds the stream any more, so that the loop over it has ended."""
        return self._stream() is None


class Stream(Iterator[Any]):
    """Iterates over samples, or over what the stages make of them. Nothing happens before the first draw.

    StatefulDataLoader calls its state_dict and load_state_dict to resume it.
    """

    def __init__(self, shards: Streamed) -> None:
        self._shards, info = shards, get_worker_info()
        self._worker, self._workers = (0, 0) if info is None else (info.id, info.num_workers)
        self._ticket = shards.plans.ticket()
        self._loaded: Any = None
        self._order: ShardOrder | None = None
        self.account = Account(self)
        self._past: tuple[Any, ...] = ()
        self._items: Iterator[Any] | None = None

    def __next__(self) -> Any:
        if self._items is None:
            self._items = self._begin()
        return next(self._items)

    def _begin(self) -> Iterator[Any]:
        shards = self._shards
        if self._workers:
            epoch = shards.plans.enter(self._ticket, self._worker)
        else:
            if self._loaded is not None:
                shards.load_state_dict(self._loaded)
                self._loaded = None
            epoch = shards.begin(0)
        walk = self._prepare(epoch)
        items: Any = self._counted(walk, epoch)
        for stage in shards.stages:
            items = stage.run(items) if isinstance(stage, PipelineStage) else stage(items)
        return iter(items)

    def _prepare(self, epoch: PublishedEpoch) -> Walk:
        shards = self._shards
        self._order, progress = shards.order(epoch), ShardProgress.of(epoch.more["resume"])
        if self._loaded is not None:
            state, progress = merged(states_in(self._loaded))
            check_same(state, self._order)
        # A loader asks its workers in turn, from worker 0 on. After a resume, worker 0 takes the place of the worker whose
        # turn was next.
        workers = max(self._workers, 1)
        worker = (self._worker + epoch.more["turn"]) % workers if self._loaded is None else self._worker
        place = Place(epoch.more["rank"], epoch.more["num_replicas"], worker, workers)
        self._past, taken = progress.at(place)
        reading = replace(shards.reading, counts=Counts())
        walk = Walk(shards.index, self._order, place, reading, self._past, taken)
        self.account.place, self.account.walk = place, walk
        return walk

    def _counted(self, walk: Walk, epoch: PublishedEpoch) -> Iterator[Raw]:
        counts, lost = walk.counts, 0
        row = self._shards.delivery.counts_of(self._worker)
        try:
            for drawn, sample in enumerate(walk):
                if drawn % _OFTEN == 0 or counts.samples_lost != lost:
                    row[:], lost = astuple(counts), counts.samples_lost
                    if not self._workers:
                        self._shards.plans.check(epoch)
                yield sample
        finally:
            row[:] = astuple(counts)

    def state_dict(self) -> dict[str, Any]:
        """This process's position in the epoch: a few numbers."""
        if not self._workers:
            return self._shards.state_dict()
        here = self.account
        if here.walk is None and self._loaded is not None:
            return dict(states_in(self._loaded)[0])
        if here.walk is None or self._order is None:
            return {"kind": KIND, "begun": False}
        at = {(here.place.rank, here.place.worker): here.taken}
        return ShardProgress(here.place.num_replicas, here.place.num_workers, at, self._past).state(self._order)

    def load_state_dict(self, state: Any) -> None:
        """Go on from `state` at the first draw."""
        self._loaded = state if states_in(state) else None
