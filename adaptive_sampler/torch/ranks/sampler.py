"""Many ranks: each walks its share of one sampler's plan, over one store that every rank holds."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DistributedSampler

from adaptive_sampler.errors import InvalidValue, NotDistributed
from adaptive_sampler.plan import Plan
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.walk.epochs import BlockedEpoch, PlannedEpoch
from adaptive_sampler.walk.iterators import Progress, SampleIterator


class DistributedAdaptiveSampler(DistributedSampler[int]):
    """This rank's share of what `sampler` visits: every `num_replicas`-th row, from the `rank`-th on.

    The ranks cover the plan once. Where it does not divide, rows from its beginning are repeated as torch's
    `DistributedSampler` does, or with `drop_last` the tail is left out: every rank has equally many. A state counts
    the samples of all ranks, so an epoch may go on with another number of them.

    `num_samples`, `len`: of this rank, in a whole epoch. `delivered` in `state_dict` counts as `LossHook.delivered`:
    where the epoch was begun plus this rank's samples since.
    """

    def __init__(
        self,
        sampler: AdaptiveSampler,
        *,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        # torch's own __init__ fixes lengths for good; here they follow the plan.
        if not isinstance(sampler, AdaptiveSampler):
            raise InvalidValue(f"sampler={sampler!r}: pass an AdaptiveSampler, such as PrunedSampler(store, keep=0.5).")
        if isinstance(sampler.replan, int):
            raise InvalidValue(
                f"replan={sampler.replan}: plans for blocks of batches need the scores of all ranks within an epoch. Use "
                "replan='epoch' or 'once' on many ranks."
            )
        if num_replicas is None or rank is None:
            require_group("DistributedAdaptiveSampler without num_replicas= and rank=")
        self.sampler = sampler
        self.num_replicas = dist.get_world_size() if num_replicas is None else num_replicas
        self.rank = dist.get_rank() if rank is None else rank
        if self.num_replicas < 1 or not 0 <= self.rank < self.num_replicas:
            raise InvalidValue(
                f"rank={rank}, num_replicas={num_replicas}: ranks count from 0 to num_replicas - 1. Leave both out inside "
                "a process group."
            )
        self.dataset: Any = range(len(sampler.store))
        self.shuffle, self.seed, self.drop_last = sampler.shuffle, sampler.seed, bool(drop_last)

    def __iter__(self) -> Iterator[int]:
        return SampleIterator.over(self)

    def __len__(self) -> int:
        return self._share(len(self.sampler))

    @property
    def num_samples(self) -> int:  # type: ignore[override]  # torch's is a number fixed at the beginning
        """This rank's samples in a whole epoch."""
        return len(self)

    @property
    def total_size(self) -> int:  # type: ignore[override]
        """All ranks' samples in a whole epoch."""
        return len(self) * self.num_replicas

    @property
    def epoch(self) -> int:  # type: ignore[override]
        """The current epoch."""
        return self.sampler.epoch

    @property
    def start(self) -> int:
        """The position, of all ranks together, at which this epoch was begun."""
        return self.sampler.start

    @property
    def plan(self) -> Plan:
        """The current epoch's plan, of all ranks together."""
        return self.sampler.plan

    def set_epoch(self, epoch: int) -> None:
        """As the sampler's."""
        self.sampler.set_epoch(epoch)

    def loss_weights(self, rows: Any) -> np.ndarray:
        """As the sampler's."""
        return self.sampler.loss_weights(rows)

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """Where all ranks are, if they are in step; `delivered` to this rank."""
        return self.sampler.state_dict(delivered=delivered)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the sampler's; the state may come from another number of ranks."""
        self.sampler.load_state_dict(state)

    def resumed_by(self, iterator: SampleIterator) -> None:
        """As the sampler's. For iterators."""
        self.sampler.resumed_by(iterator)

    @property
    def progress(self) -> Progress | None:
        """As the sampler's, of this rank's rows. For loops."""
        return self.sampler.progress

    @property
    def walking(self) -> PlannedEpoch | BlockedEpoch | None:
        """As the sampler's: of all ranks. For what counts them."""
        return self.sampler.walking

    def watch(self, *, over: bool = False) -> None:
        """As the sampler's. For loops."""
        self.sampler.watch(over=over)

    def begin(self, iterator: SampleIterator) -> "_Share":
        """This rank's share of the epoch that `iterator` begins. For iterators."""
        place = _Place(iterator)
        epoch = self.sampler.begin_by(place, iterator)
        assert isinstance(epoch, PlannedEpoch)
        place.share = _Share(epoch, self.rank, self.num_replicas, self._share(len(epoch) - epoch.start))
        return place.share

    def state_of(self, share: "_Share | None", position: int) -> dict[str, Any]:
        """The state of a walk at this rank's position. For iterators."""
        if share is None:
            return self.sampler.state_of(None, self.start)
        return self.sampler.state_of(share.epoch, share.globally(position))

    def _share(self, samples: int) -> int:
        return samples // self.num_replicas if self.drop_last else -(-samples // self.num_replicas)


def inner(sampler: AdaptiveSampler | DistributedAdaptiveSampler) -> AdaptiveSampler:
    """The sampler of all ranks: the one that is dealt out, or itself."""
    return sampler.sampler if isinstance(sampler, DistributedAdaptiveSampler) else sampler


class _Share:
    """One rank's rows of what is left of an epoch."""

    whole = True
    start = 0  # positions are this rank's own since the epoch was begun or resumed

    def __init__(self, epoch: PlannedEpoch, rank: int, ranks: int, length: int) -> None:
        self.epoch, self.number = epoch, epoch.number
        self._rank, self._ranks, self._length = rank, ranks, length

    def __len__(self) -> int:
        return self._length

    def take(self, start: int, stop: int) -> np.ndarray:
        """The rows at these positions; at most the last one is padding, from the epoch's beginning, after a resume too."""
        first, last = (self.epoch.start + self._rank + at * self._ranks for at in (start, stop - 1))
        end = len(self.epoch)
        rows = self.epoch.take(first, min(last + 1, end), self._ranks)
        if last < end:
            return rows
        repeat = (last - end) % end
        return np.concatenate([rows, self.epoch.take(repeat, repeat + 1)])

    def reach(self, position: int) -> int:
        """How far rows can be taken."""
        return self._length

    def globally(self, position: int) -> int:
        """The position of all ranks together when each is at `position`."""
        if position >= self._length:
            return len(self.epoch)
        return min(self.epoch.start + position * self._ranks, len(self.epoch))


class _Place:
    """How far all ranks have come, by how far this one has."""

    share: _Share

    def __init__(self, iterator: SampleIterator) -> None:
        self._own = iterator.place

    @property
    def position(self) -> int:
        """The position of all ranks together."""
        return self.share.globally(self._own.position)

    @property
    def let_go(self) -> bool:
        """As this rank's iterator's."""
        return self._own.let_go

    def reached(self, delivered: int) -> int:
        """Where all ranks are once this one has been given `delivered`, those of all ranks before a resume included."""
        return self.share.globally(delivered - self.share.epoch.start)

    def rows_from(self, delivered: int, size: int) -> np.ndarray | None:
        """This rank's next rows."""
        first = delivered - self.share.epoch.start
        stop = min(first + size, len(self.share))
        return self.share.take(first, stop) if first < stop else np.empty(0, np.int64)

    def size_from(self, delivered: int, size: int) -> int:
        """Single rows are dealt out, which others batch."""
        return size

    def invalidate(self, why: str) -> None:
        """As this rank's iterator's."""
        self._own.invalidate(why)


def require_group(what: str) -> None:
    """Raise `NotDistributed` where there is no process group."""
    if not dist.is_available() or not dist.is_initialized():
        raise NotDistributed(
            f"{what} needs a process group, and none is initialised. Call torch.distributed.init_process_group first, as "
            "torchrun, Lightning and Accelerate do."
        )
