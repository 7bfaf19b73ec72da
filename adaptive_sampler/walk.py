"""The iterators over an epoch: rows, or lists or arrays of them, at C speed. Each owns its epoch and position."""

import weakref
from collections.abc import Iterator
from itertools import chain
from operator import length_hint
from struct import Struct
from typing import Any, Protocol, Self, cast

import numpy as np

from adaptive_sampler.errors import ResumeError

# Rows of an order taken at a time
_FEW = 1 << 12  # as single rows: lists this long stay in the cache
_MANY = 1 << 16  # for batches


class Epoch(Protocol):
    """What an iterator walks: the rows of one epoch by position."""

    number: int
    start: int

    def __len__(self) -> int:
        """The samples of the epoch."""

    def take(self, start: int, stop: int) -> np.ndarray:
        """The rows at these positions."""

    def reach(self, position: int) -> int:
        """How far rows can be taken from `position` on."""


class Progress(Protocol):
    """What a sampler asks of the iterator that has begun its epoch."""

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn, those before a resume included."""

    def invalidate(self, why: str) -> None:
        """Make the next draw raise."""


class Walker(Protocol):
    """What makes epochs: a sampler."""

    def begin(self, iterator: Any) -> Epoch:
        """The epoch that this iterator, at its first draw, is to walk."""

    def state_of(self, epoch: Any, position: int) -> dict[str, Any]:
        """The state of a walk at this position."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class EpochIterator(chain[Any]):
    """What an epoch's rows come to, made a block at a time. `itertools.chain` hands it out, so that neither a row nor a
    batch costs a Python frame.
    """

    _walker: Walker
    _epoch: Epoch | None
    _left: Iterator[Any]  # what is still to be handed out of the block
    _end: int  # the block's
    _stale: str
    batch_size = 1

    @classmethod
    def over(cls, walker: Walker) -> Self:
        """An iterator that begins an epoch at its first draw."""

        def blocks() -> Iterator[Iterator[Any]]:
            epoch = this()._epoch = walker.begin(this())
            this()._end = epoch.start
            while this()._end < len(epoch):
                yield this()._block(epoch)
                this().check()

        it: Any = cls.from_iterable(blocks())  # an instance of this class, though typed as a chain
        # Weakly: an iterator that a loop breaks off must not wait, with its epoch's rows, for the garbage collector.
        this: Any = weakref.ref(it)
        it._walker, it._epoch, it._left, it._end, it._stale = walker, None, iter(()), 0, ""
        return cast(Self, it)

    def _block(self, epoch: Epoch) -> Iterator[Any]:
        """What the next rows come to; moves `_end` behind them."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn, those before a resume included."""
        return self._end - length_hint(self._left) * self.batch_size

    def invalidate(self, why: str) -> None:
        """Make the next draw raise: the sampler has moved to another epoch."""
        self._stale, self._end = why, self.position
        for _ in self._left:
            pass

    def check(self) -> None:
        """Raise if another epoch was set since this iterator began."""
        if self._stale:
            raise ResumeError(self._stale)

    def state_dict(self) -> dict[str, Any]:
        """As the sampler's."""
        return self._walker.state_of(self._epoch, self.position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the sampler's: this iterator's first draw goes on from there."""
        self._walker.load_state_dict(state)


class SampleIterator(EpochIterator):
    """Rows one at a time."""

    def _block(self, epoch: Epoch) -> Iterator[int]:
        stop = min(self._end + _FEW, len(epoch))
        self._left = iter(epoch.take(self._end, stop).tolist())
        self._end = stop
        return self._left


class BatchIterator(EpochIterator):
    """Rows in lists or arrays of `batch_size`, the last one shorter unless `drop_last`."""

    _drop_last: bool
    _arrays: bool

    @classmethod
    def of(cls, walker: Walker, batch_size: int, drop_last: bool, arrays: bool) -> Self:
        """As `over`."""
        it = cls.over(walker)
        it.batch_size, it._drop_last, it._arrays = batch_size, drop_last, arrays
        return it

    def _block(self, epoch: Epoch) -> Iterator[Any]:
        size = self.batch_size
        stop = min(self._end + max(_MANY // size, 1) * size, epoch.reach(self._end))
        rows = epoch.take(self._end, stop)
        whole = len(rows) - len(rows) % size
        if not whole:
            self._end, self._left = stop, iter(())
            return iter([] if self._drop_last else [rows.astype(np.int64) if self._arrays else rows.tolist()])
        self._end += whole  # what is left over is taken again, as a block of its own
        if self._arrays:
            self._left = iter(rows[:whole].astype(np.int64).reshape(-1, size))
            return self._left
        batches = Struct(f"{size}{rows.dtype.char}")  # makes ints sooner than `tolist` does
        self._left = batches.iter_unpack(np.ascontiguousarray(rows[:whole]).data)
        return map(list, self._left)

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn: all, once what is left makes no batch."""
        position = super().position
        over = self._drop_last and self._epoch is not None and len(self._epoch) - position < self.batch_size
        return len(self._epoch) if over and self._epoch is not None else position
