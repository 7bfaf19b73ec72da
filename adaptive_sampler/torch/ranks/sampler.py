"""Gives each of many ranks its share of one sampler's plan; every rank holds the same store."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DistributedSampler

from adaptive_sampler.errors import InvalidValue, NotDistributed
from adaptive_sampler.plan import Plan
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.ranks.batches import AdaptiveBatchSampler
from adaptive_sampler.walk.epochs import BlockedEpoch, PlannedEpoch
from adaptive_sampler.walk.iterators import Progress, SampleIterator


class DistributedAdaptiveSampler(DistributedSampler[int]):
    """This rank's share of the rows that `sampler` visits: every `num_replicas`-th row, the first of them at position `rank`.

    Together the ranks visit the plan once. If its length is no multiple of `num_replicas`, rows from its beginning are
    repeated, as torch's `DistributedSampler` does, or, with `drop_last`, the last rows are left out. So every rank has
    the same number of rows. A state counts the samples of all ranks, so an epoch can be resumed with another number of
    ranks.

    `num_samples` and `len` are the samples of this rank in a whole epoch. `delivered` in `state_dict` counts as
    `LossHook.delivered` does: the position of all ranks at which the epoch was begun or resumed, plus the samples that
    this rank was given since.

    Raises `InvalidValue` for anything but an AdaptiveSampler, for one with `replan=k`, and for a rank that is out of
    range; and `NotDistributed` if `num_replicas` or `rank` is left out and there is no process group.
    """

    def __init__(
        self,
        sampler: AdaptiveSampler,
        *,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
    ) -> None:
        # torch's own __init__ is not called: it would fix the length for good, and here the length follows the plan.
        if not isinstance(sampler, AdaptiveSampler):
            raise InvalidValue(f"sampler={sampler!r}: pass an AdaptiveSampler, such as PrunedSampler(store, keep=0.5).")
        if isinstance(sampler.replan, int):
            raise InvalidValue(
                f"replan={sampler.replan}: plans for blocks of batches need the scores of all ranks within an epoch. Use "
                "replan='epoch' or 'once' on many ranks."
            )
        if (num_replicas is None or rank is None) and alone(
            "DistributedAdaptiveSampler without num_replicas= and rank="
        ):
            num_replicas, rank = num_replicas or 1, rank or 0
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

    def upcoming_length(self) -> int:
        """This rank's samples of the epoch that the next iterator begins; see `AdaptiveSampler.upcoming_length`."""
        return self._share(self.sampler.upcoming_length())

    @property
    def num_samples(self) -> int:  # type: ignore[override]  # a fixed number in torch's class
        """This rank's samples in a whole epoch."""
        return len(self)

    @property
    def total_size(self) -> int:  # type: ignore[override]  # a fixed number in torch's class
        """All ranks' samples in a whole epoch."""
        return len(self) * self.num_replicas

    @property
    def epoch(self) -> int:  # type: ignore[override]  # an attribute in torch's class
        """The current epoch."""
        return self.sampler.epoch

    @property
    def start(self) -> int:
        """The position, of all ranks together, at which this epoch was begun or resumed."""
        return self.sampler.start

    @property
    def plan(self) -> Plan:
        """The current epoch's plan, of all ranks together."""
        return self.sampler.plan

    @property
    def fixed_plan(self) -> Plan | None:
        """As `AdaptiveSampler.fixed_plan`, of all ranks together; used by loops."""
        return self.sampler.fixed_plan

    def set_epoch(self, epoch: int) -> None:
        """As `AdaptiveSampler.set_epoch`."""
        self.sampler.set_epoch(epoch)

    def batches(self, batch_size: int, *, drop_last: bool = False, arrays: bool = False) -> AdaptiveBatchSampler:
        """A batch sampler over this rank's share, for `DataLoader(batch_sampler=...)`; as `AdaptiveSampler.batches`."""
        return AdaptiveBatchSampler(self, batch_size, drop_last, arrays)

    def loss_weights(self, rows: Any) -> np.ndarray:
        """As `AdaptiveSampler.loss_weights`."""
        return self.sampler.loss_weights(rows)

    def weights_or_none(self, rows: Any) -> np.ndarray | None:
        """As `AdaptiveSampler.weights_or_none`; used by loops."""
        return self.sampler.weights_or_none(rows)

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """The state of all ranks, provided that they are in step; `delivered`: see the class."""
        return self.sampler.state_dict(delivered=delivered)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `AdaptiveSampler.load_state_dict`; the state may come from another number of ranks."""
        self.sampler.load_state_dict(state)

    def resumed_by(self, iterator: SampleIterator) -> None:
        """As `AdaptiveSampler.resumed_by`; used by iterators."""
        self.sampler.resumed_by(iterator)

    @property
    def progress(self) -> Progress | None:
        """As `AdaptiveSampler.progress`, for the rows of this rank; used by loops."""
        return self.sampler.progress

    @property
    def walking(self) -> PlannedEpoch | BlockedEpoch | None:
        """As `AdaptiveSampler.walking`: the epoch of all ranks; used by code that counts epochs."""
        return self.sampler.walking

    def note_loop(self, *, over: bool = False) -> None:
        """As `AdaptiveSampler.note_loop`; used by loops."""
        self.sampler.note_loop(over=over)

    def begin(self, iterator: SampleIterator) -> "_Share":
        """This rank's share of the epoch that `iterator` begins; used by iterators."""
        place = _Place(iterator)
        epoch = self.sampler.begin_by(place, iterator)
        assert isinstance(epoch, PlannedEpoch)
        place.share = _Share(epoch, self.rank, self.num_replicas, self._share(len(epoch) - epoch.start))
        return place.share

    def state_of(self, share: "_Share | None", position: int) -> dict[str, Any]:
        """The state when this rank is at `position` of its `share` (None: the epoch has not begun); used by iterators."""
        if share is None:
            return self.sampler.state_of(None, self.start)
        return self.sampler.state_of(share.epoch, share.globally(position))

    def _share(self, samples: int) -> int:
        """How many of `samples` samples of all ranks are this rank's."""
        return samples // self.num_replicas if self.drop_last else -(-samples // self.num_replicas)


def inner(sampler: AdaptiveSampler | DistributedAdaptiveSampler) -> AdaptiveSampler:
    """The `AdaptiveSampler` inside a `DistributedAdaptiveSampler`, or `sampler` itself."""
    return sampler.sampler if isinstance(sampler, DistributedAdaptiveSampler) else sampler


class _Share:
    """This rank's rows of what is left of an epoch; positions count them from where the epoch was begun or resumed."""

    whole = True
    start = 0  # positions are this rank's own, since the epoch was begun or resumed

    def __init__(self, epoch: PlannedEpoch, rank: int, ranks: int, length: int) -> None:
        self.epoch, self.number = epoch, epoch.number
        self._rank, self._ranks, self._length = rank, ranks, length

    def __len__(self) -> int:
        return self._length

    def take(self, start: int, stop: int) -> np.ndarray:
        """The rows at the positions `start` … `stop` − 1, (stop − start,) integers.

        At most the last one is padding. It comes from the beginning of the whole epoch, after a resume too.
        """
        first, last = (self.epoch.start + self._rank + at * self._ranks for at in (start, stop - 1))
        end = len(self.epoch)
        rows = self.epoch.take(first, min(last + 1, end), self._ranks)
        if last < end:
            return rows
        repeat = (last - end) % end
        return np.concatenate([rows, self.epoch.take(repeat, repeat + 1)])

    def reach(self, position: int) -> int:
        """The position up to which rows can be taken: the end."""
        return self._length

    def globally(self, position: int) -> int:
        """The position of all ranks together when each is at `position`."""
        if position >= self._length:
            return len(self.epoch)
        return min(self.epoch.start + position * self._ranks, len(self.epoch))


class _Place:
    """How far all ranks have come, computed from how far this rank has come."""

    share: _Share

    def __init__(self, iterator: SampleIterator) -> None:
        self._own = iterator.place

    @property
    def position(self) -> int:
        """The position of all ranks together."""
        return self.share.globally(self._own.position)

    @property
    def let_go(self) -> bool:
        """Whether this rank's iterator is gone, so that nobody can draw any more."""
        return self._own.let_go

    def reached(self, delivered: int) -> int:
        """The position of all ranks together once this rank has been given `delivered` samples.

        `delivered` counts the samples of all ranks before a resume, and this rank's samples since.
        """
        return self.share.globally(delivered - self.share.epoch.start)

    def rows_from(self, delivered: int, size: int) -> np.ndarray | None:
        """This rank's next `size` rows, or fewer at the end, after `delivered` samples, counted as for `reached`."""
        first = delivered - self.share.epoch.start
        stop = min(first + size, len(self.share))
        return self.share.take(first, stop) if first < stop else np.empty(0, np.int64)

    def size_from(self, delivered: int, size: int) -> int:
        """`size`: this sampler yields single rows, and does not know how they are put into batches."""
        return size

    def invalidate(self, why: str) -> None:
        """Make the next draw from this rank's iterator raise; `why`: the message."""
        self._own.invalidate(why)


def alone(what: str) -> bool:
    """Whether this process trains alone: there is no process group, and nothing says that there should be one.

    `what`: who asks, for the message. Raises `NotDistributed` if `WORLD_SIZE` says that there are more processes and no
    group is initialised: each would take itself for the only one.
    """
    if dist.is_available() and dist.is_initialized():
        return False
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes not in ("", "1"):
        raise NotDistributed(
            f"{what} needs a process group: WORLD_SIZE={processes} says that there are as many processes, and none is "
            "initialised. Call torch.distributed.init_process_group first; Lightning and Accelerate do so when they begin."
        )
    return True
