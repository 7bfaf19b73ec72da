"""The kept samples of a plan, for any framework: an epoch as an iterable of dicts that can be stopped and resumed."""

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
    """One epoch of `plan` over the shards of `index`; each sample a dict, pruned ones never read.

    A sample has __key__, __url__, __index__ (its row), __loss_weight__ and its parts as bytes. A row comes as often
    as the plan says. Several readers, each with its `place`, get equal, disjoint shares.

    window: samples in the shuffling buffer, at most 64 MiB of them; 0: the shards' own order. Those of local shards are
    read when they are delivered, others when they enter. merge_gap: bytes that are read rather than skipped between
    samples that are read as they enter; None: as measured; a number has local shards read so too, which pays where a
    file system has no page cache. drop_last: ranks get equal counts; True leaves a few visits out,
    False repeats a few. verify: look at the header
    before each sample. handler: judges what is damaged or missing; True goes on, and `.counts` says what was lost.
    access: how remote shards are opened.
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
        self._order = ShardOrder(Kept.of(plan, index.starts), seed, epoch, bounded(window, index), drop_last)
        self._progress = ShardProgress(self.place.num_replicas, self.place.num_workers)
        self._walk = self._started()

    @property
    def counts(self) -> Counts:
        """What was read and lost so far."""
        return self._reading.counts

    def __len__(self) -> int:
        """Samples in a whole epoch of this reader."""
        start, stop, padding = share(len(self._order), self.place, self._order.drop_last)
        return stop - start + padding

    def __iter__(self) -> Walk:
        """From the loaded position the first time, from the epoch's start after that."""
        walk = self._walk = self._started()
        self._progress = ShardProgress(self.place.num_replicas, self.place.num_workers)
        return walk

    def _started(self) -> Walk:
        past, taken = self._progress.at(self.place)
        self._past = past
        return Walk(self.index, self._order, self.place, self._reading, past, taken)

    def state_dict(self) -> dict[str, Any]:
        """This reader's position, counting what it has delivered."""
        at = (self.place.rank, self.place.worker)
        return ShardProgress(self.place.num_replicas, self.place.num_workers, {at: self._walk.taken}, self._past).state(
            self._order
        )

    def load_state_dict(self, state: Any) -> None:
        """Go on from `state`: this reader's, or a list of those of all readers, who may have been more or fewer."""
        found, self._progress = merged(states_in(state))
        check_same(found, self._order)
        self._walk = self._started()
