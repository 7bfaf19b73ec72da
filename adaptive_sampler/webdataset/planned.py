"""Streams a plan's samples to WebDataset pipelines and DataLoaders: divided among readers, resumable, counted."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info
from webdataset.utils import pytorch_worker_info

from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.shards.errors import Handler, reraise
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.reading.order import ShardOrder
from adaptive_sampler.shards.reading.progress import KIND, ShardProgress, check_same
from adaptive_sampler.shards.reading.settings import Counts, ShardReading
from adaptive_sampler.shards.reading.share import Place, share
from adaptive_sampler.shards.reading.walk import bounded
from adaptive_sampler.shards.sources.access import Access
from adaptive_sampler.torch.ranks.visits import walked_otherwise
from adaptive_sampler.webdataset.delivery import ShardDelivery, readers_in
from adaptive_sampler.webdataset.loader import PlannedLoader
from adaptive_sampler.webdataset.plans import Plans, PublishedEpoch
from adaptive_sampler.webdataset.stream import Account, Stage, Stream


class PlannedShards(IterableDataset[Any]):
    """The samples that `sampler` plans, read from the shards of `index`, as raw WebDataset samples.

    A sample has __key__, __url__, __index__ (its row), __loss_weight__ and its parts as bytes. `stages` (WebDataset's
    stages, or any callables on an iterator) are applied to the samples in the same process.

    Use it in wds.DataPipeline, wds.WebLoader or a DataLoader. `loader` makes a DataLoader that plans each epoch by
    itself. With another DataLoader that has workers, call `set_epoch` before every epoch: a missing call raises
    SelectionLost. In a process without workers, each pass goes on to the next epoch, as with the sampler.

    rank, num_replicas: None takes them from the environment or torch.distributed, as WebDataset does. As in
    `adaptive_sampler.shards.ShardReader`: window, samples in the shuffling buffer; drop_last, ranks get equal counts by
    leaving out visits instead of repeating them; merge_gap, bytes between two samples that are read rather than skipped;
    verify, check the header before each sample; handler, decides about damaged data; access, how remote shards are opened.
    Raises InvalidValue for a `sampler` that is no AdaptiveSampler or plans several times in an epoch, and for one whose store
    has other rows than the index, or other keys.
    """

    def __init__(
        self,
        index: ShardIndex,
        sampler: AdaptiveSampler,
        *,
        stages: Sequence[Stage] = (),
        rank: int | None = None,
        num_replicas: int | None = None,
        window: int = 1000,
        drop_last: bool = False,
        merge_gap: int | None = None,
        verify: bool = True,
        handler: Handler = reraise,
        access: Access | None = None,
    ) -> None:
        super().__init__()
        self.index, self.stages = index, tuple(stages)
        self.reading = ShardReading(access or Access(), merge_gap, verify, handler)
        self.plans = Plans(sampler, index.starts)
        _check_keys(sampler, index)
        self._asked = rank, num_replicas
        self._window, self._drop_last = bounded(window, index), drop_last
        self.delivery = ShardDelivery()
        self._stream: Account | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stream": None}

    def __iter__(self) -> Stream:
        stream = Stream(self)
        self._stream = stream.account
        return stream

    # -- the trainer's side -------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """What this rank's loader has read and lost in the present epoch, summed over all its workers."""
        return self.delivery.counts

    @property
    def sampler(self) -> AdaptiveSampler | None:
        """The sampler that plans; None in a worker."""
        return self.plans.sampler

    @property
    def epoch(self) -> int:
        """The sampler's epoch."""
        return self.plans.owner.epoch

    @property
    def num_samples(self) -> int:
        """How many samples this rank has in the present epoch."""
        return sum(self.shares(1))

    def shares(self, workers: int) -> list[int]:
        """(workers,) how many samples each worker of this rank has in the present epoch."""
        total, (rank, num_replicas) = len(self.plans.owner), self._layout()
        places = [Place(rank, num_replicas, worker, workers) for worker in range(workers)]
        bounds = [share(total, place, self._drop_last) for place in places]
        return [stop - start + padding for start, stop, padding in bounds]

    def set_epoch(self, epoch: int) -> None:
        """Plan `epoch` from all scores, including those that the hooks still hold, and publish the plan to the workers.

        The epoch of a loaded state keeps its position. Raises ResumeError if another epoch is set directly after a
        state was loaded.
        """
        if self.delivery.loaded is not None and epoch != self.epoch:
            raise ResumeError(
                f"set_epoch({epoch}) after loading a state within epoch {self.epoch}: that epoch is not over. Resume the "
                f"loop at epoch {self.epoch}, or start afresh without the state."
            )
        self.plans.set_epoch(epoch, self._told)
        self.delivery.forget()

    def loader(self, **options: Any) -> PlannedLoader:
        """A DataLoader over this stream, which plans each epoch by itself. `options`: those of torch's DataLoader.

        Each pass makes a plan from all scores, including those that the hooks still hold, saves it, and publishes it
        to the workers, persistent ones too. The loader's state_dict counts what was delivered.
        """
        return PlannedLoader(self, options)

    def state_dict(self) -> dict[str, Any]:
        """The position within the epoch, which counts what was delivered, and the sampler's state.

        While a loop holds the last batch of an epoch, the state is the end of that epoch: after a resume comes a pass without
        samples, then the next epoch. Once the loop is over, the state is the beginning of the next epoch.

        If the ranks run in step, the state of one rank is enough to resume all, on any number of ranks. Otherwise load
        the list of all ranks' states. Raises ResumeError if another DataLoader than `loader`'s reads the epoch with
        workers, because only that DataLoader knows what they have delivered.
        """
        if get_worker_info() is not None:
            return {}  # StatefulDataLoader also asks the stream, and only the stream knows the position
        sampler, epoch = self.plans.owner, self.plans.epoch
        if self.delivery.loaded is not None:
            return dict(self.delivery.loaded)
        if epoch is None:
            return _unbegun(sampler.state_dict())
        if not self.delivery.known:
            if self.plans.walked_by_workers():
                raise ResumeError(
                    "the samples go through a DataLoader of yours, and only it knows what its workers have delivered. "
                    "Save the state of a torchdata StatefulDataLoader, or iterate .loader(...)."
                )
            return _unbegun(self._sampler_state())
        if self.delivery.over:
            return _unbegun(sampler.state_after())
        stream, order = self._stream, self.order(epoch)
        if stream is not None and stream.begun:
            self.delivery.note_own(stream.taken)
        progress, whole = self.delivery.progress(epoch, order)
        if whole and self.delivery.over is None and stream is not None and stream.let_go:
            return _unbegun(sampler.state_after())
        return progress.state(order) | {"turn": self.delivery.turn, "sampler": self._sampler_state()}

    def load_state_dict(self, state: Any) -> None:
        """Go on from `state`: a state of this class, of its loader or of a StatefulDataLoader, or a list from all ranks.

        Raises ResumeError for anything else, and for the state of another store or sampler.
        """
        if get_worker_info() is not None:
            return
        found = readers_in(state)
        first = dict(found[0] if found else state)
        if "sampler" in first:
            self.plans.owner.load_state_dict(first["sampler"])
        self.plans.restart()
        self.delivery.load(first, found)

    def begin(self, workers: int) -> PublishedEpoch:
        """Begin the epoch that was set, or the next one. `workers`: of the loader, or 0. Called by loaders and streams."""
        epoch = self.plans.begin(self._told, publish=workers > 0)
        if workers:
            self._stream = None
        if self.delivery.loaded is not None:
            loaded, self.delivery.loaded = self.delivery.loaded, None
            order = self.order(epoch)
            check_same(loaded, order)
            done = ShardProgress.of(epoch.more["resume"])
            walked_otherwise(self.plans.owner, lambda: order.rows_left(done.stints))
        self.delivery.begin(epoch, workers)
        return epoch

    def delivered(self, worker: int, taken: int) -> None:
        """Note that `worker` has delivered `taken` visits so far. Called by loaders."""
        self.delivery.note(worker, taken)

    def ended(self) -> None:
        """Note that the loop over the epoch has ended, maybe before its last sample (`drop_last`). Called by loaders."""
        self.delivery.over = True

    def _sampler_state(self) -> dict[str, Any]:
        """The sampler's state at the beginning of its epoch. The position is counted by the stream, not by a hook."""
        sampler = self.plans.owner
        return sampler.state_of(sampler.walking, 0)

    def _told(self) -> dict[str, Any]:
        """What the workers must know besides the plan."""
        rank, num_replicas = self._layout()
        return {"rank": rank, "num_replicas": num_replicas, **self.delivery.told()}

    def _layout(self) -> tuple[int, int]:
        rank, num_replicas, _, _ = pytorch_worker_info()
        asked_rank, asked_replicas = self._asked
        return (rank if asked_rank is None else asked_rank), (
            num_replicas if asked_replicas is None else asked_replicas
        )

    # -- in the trainer and in workers --------------------------------------------------------------------------------

    def order(self, epoch: PublishedEpoch) -> ShardOrder:
        """The order of an epoch's visits."""
        window = self._window if epoch.shuffle else 0
        last, length = self._drop_last, epoch.length
        return ShardOrder(epoch.kept, epoch.seed, epoch.number, window, last, length, self.index.digest)

    def position(self) -> tuple[int, int]:
        """Where this process's stream is: (worker, visits that it has delivered)."""
        return (0, 0) if self._stream is None else (self._stream.place.worker, self._stream.taken)


def _unbegun(sampler: dict[str, Any]) -> dict[str, Any]:
    """The state of a stream whose epoch, that of the sampler's state, has not begun."""
    return {"kind": KIND, "begun": False, "sampler": sampler}


def _check_keys(sampler: AdaptiveSampler, index: ShardIndex) -> None:
    """Raise InvalidValue if the store has keys, and they are not those of the index: its rows are other samples."""
    store = sampler.store
    if store.session.keys is None:
        return
    row = index.first_other_key(*store.session.key_map().arrays().values())
    if row is not None:
        raise InvalidValue(
            f"row {row} is {store.key(row)!r} in the store and {index.keys_of(row, row + 1)[0]!r} in the index: the scores are "
            "those of other samples. Pass the index that the store was made for, or make a store with keys=index.keys."
        )
