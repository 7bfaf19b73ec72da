"""A plan's samples as a stream for WebDataset pipelines and DataLoaders: shared out, resumable, counted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.utils import pytorch_worker_info

from adaptive_sampler.errors import ResumeError
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.shards.errors import Handler, reraise
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.reading.order import ShardOrder
from adaptive_sampler.shards.reading.progress import KIND, ShardProgress, check_same, merged, states_in
from adaptive_sampler.shards.reading.settings import Counts, ShardReading
from adaptive_sampler.shards.reading.share import Place, Uneven, share
from adaptive_sampler.shards.reading.walk import bounded
from adaptive_sampler.shards.sources.access import Access
from adaptive_sampler.webdataset.loader import PlannedLoader
from adaptive_sampler.webdataset.plans import WORKERS, Plans, PublishedEpoch, shared
from adaptive_sampler.webdataset.stream import Stream

Stage = Callable[[Iterator[Any]], Iterable[Any]]


class PlannedShards(IterableDataset[Any]):
    """The samples that `sampler` plans, read from the shards of `index`, as raw WebDataset samples.

    Each has __key__, __url__, __index__ (its row), __loss_weight__ and its parts as bytes; `stages` (of WebDataset, or
    any callable on an iterator) follow in the same process. Goes into wds.DataPipeline, wds.WebLoader, a DataLoader;
    `loader` makes a DataLoader that plans each epoch by itself. Under another one with workers, `set_epoch` is due
    before every epoch, and a missing call raises. A pass in this process goes on to the next epoch, as the sampler's.

    rank, ranks: None asks the environment and torch.distributed, as WebDataset does. The other arguments are those of
    `adaptive_sampler.shards.ShardReader`.
    """

    def __init__(
        self,
        index: ShardIndex,
        sampler: AdaptiveSampler,
        *,
        stages: Sequence[Stage] = (),
        rank: int | None = None,
        ranks: int | None = None,
        window: int = 1000,
        uneven: Uneven = "pad",
        merge_gap: int | None = None,
        verify: bool = True,
        handler: Handler = reraise,
        access: Access | None = None,
    ) -> None:
        super().__init__()
        self.index, self.stages = index, tuple(stages)
        self.reading = ShardReading(access or Access(), merge_gap, verify, handler)
        self.plans = Plans(sampler, index.starts)
        self._rank, self._ranks = rank, ranks
        self._window, self._uneven = bounded(window, index), uneven
        self._counts = shared(WORKERS, len(fields(Counts)))
        self._loaded: dict[str, Any] | None = None  # a state whose epoch has not begun again yet
        self._resume = ShardProgress()
        self._workers = 1
        self._turn = 0  # the worker whose batch comes next
        self._taken: dict[int, int] = {}  # by worker, what a loader has delivered in this epoch
        self._stream: Stream | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stream": None, "_loaded": None}

    def __iter__(self) -> Stream:
        self._stream = Stream(self)
        return self._stream

    # -- the trainer's side -------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """What this rank's loader has read and lost in the present epoch, over all its workers."""
        return Counts(*self._counts.sum(dim=0).tolist())

    @property
    def sampler(self) -> AdaptiveSampler | None:
        """The sampler that plans; in a worker there is none."""
        return self.plans.sampler

    @property
    def epoch(self) -> int:
        """The sampler's epoch."""
        return self.plans.owner.epoch

    @property
    def num_samples(self) -> int:
        """Samples of this rank in the present epoch."""
        return sum(self.shares(1))

    def shares(self, workers: int) -> list[int]:
        """(workers,) samples of each worker of this rank in the present epoch."""
        total, (rank, ranks) = len(self.plans.owner), self._layout()
        bounds = [share(total, Place(rank, ranks, worker, workers), self._uneven) for worker in range(workers)]
        return [stop - start + padding for start, stop, padding in bounds]

    def set_epoch(self, epoch: int) -> None:
        """Drain the hooks, plan `epoch` and tell the workers. The epoch of a loaded state keeps its position.

        Raises ResumeError for another epoch straight after a state was loaded.
        """
        if self._loaded is not None and epoch != self.epoch:
            raise ResumeError(
                f"set_epoch({epoch}) after loading a state within epoch {self.epoch}: that epoch is not over. Resume the "
                f"loop at epoch {self.epoch}, or start afresh without the state."
            )
        self.plans.set_epoch(epoch, self._told)
        self._taken = {}

    def loader(self, **options: Any) -> PlannedLoader:
        """A DataLoader over this stream; `options` are torch's. Each pass drains the hooks, plans, saves and tells
        its workers, persistent ones too. Its state_dict and load_state_dict count what was delivered.
        """
        return PlannedLoader(self, options)

    def state_dict(self) -> dict[str, Any]:
        """The position within the epoch, counting what was delivered, and the sampler's state; a few numbers.

        One rank's state resumes all, on any number of ranks, as long as the ranks run in step; otherwise load the list
        of all ranks' states.
        """
        if get_worker_info() is not None:
            return {}  # StatefulDataLoader asks the stream as well, and that is what has moved
        sampler, epoch = self.plans.owner, self.plans.epoch
        if self._loaded is not None:
            return dict(self._loaded)
        if epoch is None:
            return {"kind": KIND, "begun": False, "sampler": sampler.state_dict()}
        if not self._taken:
            if self.plans.walked_by_workers():
                raise ResumeError(
                    "the samples go through a DataLoader of yours, and only it knows what its workers have delivered. "
                    "Save the state of a torchdata StatefulDataLoader, or iterate .loader(...)."
                )
            return {"kind": KIND, "begun": False, "sampler": self._sampler_state()}
        progress, order = self._progress(epoch), self.order(epoch)
        if progress is None:
            return {"kind": KIND, "begun": False, "sampler": sampler.state_after()}
        return progress.state(order) | {"turn": self._turn, "sampler": self._sampler_state()}

    def load_state_dict(self, state: Any) -> None:
        """Go on from `state`: of this class, its loader or a StatefulDataLoader, or a list of those of all ranks."""
        if get_worker_info() is not None:
            return
        found = states_in(state)
        if not found and not _unbegun(state):
            merged(found)  # raises
        first = dict(found[0] if found else state)
        if "sampler" in first:
            self.plans.owner.load_state_dict(first["sampler"])
        self.plans.restart()
        self._loaded, self._resume, self._turn = None, ShardProgress(), 0
        if found:
            self._resume = merged(found)[1]
            self._loaded, self._turn = first | self._resume.data(), int(first.get("turn", 0))

    def begin(self, workers: int) -> PublishedEpoch:
        """Begin the epoch that was set, or the next one, for `workers` of a loader, or 0. For loaders and streams."""
        epoch = self.plans.begin(self._told, publish=workers > 0)
        if workers:
            self._stream = None
        if self._loaded is not None:
            loaded, self._loaded = self._loaded, None
            check_same(loaded, self.order(epoch))
        self._workers, self._counts[:], self._turn = max(workers, 1), 0, epoch.more["turn"]
        progress = ShardProgress.of(epoch.more)
        places = [Place(epoch.more["rank"], epoch.more["of"], w, self._workers) for w in range(self._workers)]
        self._taken = {place.worker: progress.at(place)[1] for place in places}
        return epoch

    def delivered(self, worker: int, taken: int) -> None:
        """A loader's worker has delivered so many visits. For loaders."""
        self._taken[worker] = taken
        self._turn = (worker + 1) % self._workers

    def _progress(self, epoch: PublishedEpoch) -> ShardProgress | None:
        """What this rank has delivered of `epoch`; None where that is all."""
        rank, ranks, workers = epoch.more["rank"], epoch.more["of"], self._workers
        if self._stream is not None and self._stream.begun:
            self._taken = {0: self._stream.taken}
        before, order = ShardProgress.of(epoch.more), self.order(epoch)
        places = [Place(rank, ranks, worker, workers) for worker in range(workers)]
        past = before.at(places[0])[0]
        if all(self._taken.get(p.worker, 0) == len(order.own(p, past)[0]) for p in places):
            return None
        return ShardProgress(ranks, workers, {(rank, w): taken for w, taken in self._taken.items()}, past)

    def _sampler_state(self) -> dict[str, Any]:
        """The sampler's at the beginning of its epoch: what was walked of it is the stream's to count, not a hook's."""
        sampler = self.plans.owner
        return sampler.state_of(sampler.walking, 0)

    def _told(self) -> dict[str, Any]:
        """What the workers are to know beside the plan."""
        rank, of = self._layout()
        progress, turn = self._resume, self._turn if self._loaded is not None else 0
        self._resume = ShardProgress()
        return {"rank": rank, "of": of, "turn": turn, **progress.data()}

    def _layout(self) -> tuple[int, int]:
        rank, ranks, _, _ = pytorch_worker_info()
        return (rank if self._rank is None else self._rank), (ranks if self._ranks is None else self._ranks)

    # -- in whichever process -----------------------------------------------------------------------------------------

    def order(self, epoch: PublishedEpoch) -> ShardOrder:
        """The order of an epoch's visits."""
        window = self._window if epoch.shuffle else 0
        return ShardOrder(epoch.kept, epoch.seed, epoch.number, window, self._uneven, epoch.length)

    def counts_of(self, worker: int) -> NDArray[np.int64]:
        """Where `worker` reports its counts, shared with the trainer."""
        row: NDArray[np.int64] = self._counts[worker % WORKERS].numpy()
        return row

    def position(self) -> tuple[int, int]:
        """(worker, visits handed out) of this process's stream."""
        return (0, 0) if self._stream is None else (self._stream.place.worker, self._stream.taken)


def _unbegun(state: Any) -> bool:
    return isinstance(state, dict) and state.get("kind") == KIND
