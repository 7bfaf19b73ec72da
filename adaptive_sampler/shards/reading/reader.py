"""Reads the kept samples of a plan, for any framework: one epoch as an iterable of dicts that can be resumed."""

from typing import Any

from adaptive_sampler.plan import Plan
from adaptive_sampler.shards.errors import Handler, reraise
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.reading.kept import Kept
from adaptive_sampler.shards.reading.order import ShardOrder
from adaptive_sampler.shards.reading.progress import ShardProgress, check_same, merged, states_in
from adaptive_sampler.shards.reading.settings import Counts, ShardReading
from adaptive_sampler.shards.reading.share import Place, share
from adaptive_sampler.shards.reading.walk import Walk, bounded
from adaptive_sampler.shards.sources.access import Access


class ShardReader:
    """Iterates over one epoch of `plan` over the shards of `index`. Pruned samples are never read.

    A sample is a dict with __key__, __url__, __index__ (its row), __loss_weight__ and its parts as bytes. A row comes
    as often as the plan says. Several readers, each with its own `place`, get disjoint shares, apart from repeats.

    seed, epoch: decide the order, together with `place` and `window`.
    window: samples in the shuffling buffer, at most as many as fit into 64 MiB on average; 0 keeps the shards' order.
    Samples of local shards are read when they are delivered, other samples when they enter the buffer.
    merge_gap: if samples are read when they enter the buffer, gaps between them of up to this many bytes are read and
    discarded. None: the value measured for the kind of source. With a number, samples of local shards are also read
    when they enter the buffer, which is faster on a file system without a page cache.
    drop_last: ranks get equal counts: True leaves out a few visits, False repeats a few.
    verify: check the header before each sample, so that moved bytes are noticed.
    handler: decides about damaged or missing data. If it returns True, reading goes on; `counts` says what was lost.
    access: how remote shards are opened.
    Raises InvalidValue for a plan with another number of rows than the index, or a negative window or merge_gap.
    """

    def __init__(
        self,
        index: ShardIndex,
        plan: Plan,
        *,
        seed: int = 0,
        epoch: int = 0,
        place: Place | None = None,
        window: int = 1000,
        drop_last: bool = False,
        merge_gap: int | None = None,
        verify: bool = True,
        handler: Handler = reraise,
        access: Access | None = None,
    ) -> None:
        self.index, self.place = index, place or Place()
        self._reading = ShardReading(access or Access(), merge_gap, verify, handler)
        kept, window = Kept.of(plan, index.starts), bounded(window, index)
        self._order = ShardOrder(kept, seed, epoch, window, drop_last, index=index.digest)
        self._progress = ShardProgress(self.place.num_replicas, self.place.num_workers)
        self._walk = self._started()

    @property
    def counts(self) -> Counts:
        """What this reader has read and lost so far."""
        return self._reading.counts

    def __len__(self) -> int:
        """How many samples a whole epoch of this reader has."""
        start, stop, padding = share(len(self._order), self.place, self._order.drop_last)
        return stop - start + padding

    def __iter__(self) -> Walk:
        """Iterate from the loaded position the first time, and from the epoch's start after that."""
        walk = self._walk = self._started()
        self._progress = ShardProgress(self.place.num_replicas, self.place.num_workers)
        return walk

    def _started(self) -> Walk:
        past, taken = self._progress.at(self.place)
        self._past = past
        return Walk(self.index, self._order, self.place, self._reading, past, taken)

    def state_dict(self) -> dict[str, Any]:
        """This reader's position in the epoch, which counts what it has delivered."""
        at = (self.place.rank, self.place.worker)
        return ShardProgress(self.place.num_replicas, self.place.num_workers, {at: self._walk.taken}, self._past).state(
            self._order
        )

    def load_state_dict(self, state: Any) -> None:
        """Go on from `state`: this reader's state, or a list of the states of all readers.

        There may be more or fewer readers now than when the states were saved. Raises ResumeError for a state of
        another plan, index, seed, epoch, window or drop_last.
        """
        found, progress = merged(states_in(state))
        check_same(found, self._order)
        progress.at(self.place)  # raises before anything has changed
        self._progress = progress
        self._walk = self._started()
