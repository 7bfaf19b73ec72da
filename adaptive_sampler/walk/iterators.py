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
    whole: bool  # whether rows can be taken from anywhere, at any time

    def __len__(self) -> int:
        """The samples of the epoch."""

    def take(self, start: int, stop: int) -> np.ndarray:
        """The rows at these positions."""

    def reach(self, position: int) -> int:
        """How far rows can be taken from `position` on."""


class Progress(Protocol):
    """What a sampler asks of whoever has begun its epoch."""

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn, those before a resume included."""

    @property
    def let_go(self) -> bool:
        """Whether nobody can draw any more: the loop that did so is over."""

    def reached(self, delivered: int) -> int:
        """The position, of all ranks together, at which this process has been given `delivered` samples."""

    def rows_from(self, delivered: int, size: int) -> np.ndarray | None:
        """The next `size` rows for whoever was given `delivered` samples, fewer at the end; None where that is not known."""

    def size_from(self, delivered: int, size: int) -> int:
        """How many samples the next batch has for whoever was given `delivered`; `size` where that is not known."""

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

    def resumed_by(self, iterator: Any) -> None:
        """The state came by this iterator."""


class Drawn:
    """How far an iterator has come. Apart from it, so that a sampler knows the place of an iterator that is gone.

    An iterator that is gone is the only sign of a loop's end that a sampler sees by itself: the last, short batch of an
    epoch takes its last row and asks for one more before that batch is trained on.
    """

    def __init__(self, iterator: "EpochIterator", batch_size: int, drop_last: bool) -> None:
        self.iterator: weakref.ref[EpochIterator] = weakref.ref(iterator, self._forget)
        self.epoch: Epoch | None = None
        self.end = 0  # of the block that is being handed out
        self.left: Iterator[Any] = iter(())  # what is still to be handed out of it
        self.stale = ""
        self._batch_size, self._drop_last = batch_size, drop_last

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn, those before a resume included: all, once what is left makes no
        batch."""
        position = self.end - length_hint(self.left) * self._batch_size
        over = self._drop_last and self.epoch is not None and len(self.epoch) - position < self._batch_size
        return len(self.epoch) if over and self.epoch is not None else position

    @property
    def let_go(self) -> bool:
        """Whether the iterator is gone."""
        return self.iterator() is None

    def reached(self, delivered: int) -> int:
        """As many, where no other rank draws from it."""
        return delivered

    def rows_from(self, delivered: int, size: int) -> np.ndarray | None:
        """The next rows; None where plans change within the epoch: looking would make them."""
        if self.epoch is None or not self.epoch.whole:
            return None
        return self.epoch.take(delivered, min(delivered + size, len(self.epoch)))

    def size_from(self, delivered: int, size: int) -> int:
        """Our own batches are whole but for the last."""
        return (
            size if self.epoch is None or self._batch_size == 1 else min(self._batch_size, len(self.epoch) - delivered)
        )

    def invalidate(self, why: str) -> None:
        """Make the next draw raise: the sampler has moved to another epoch."""
        self.stale, self.end = why, self.end - length_hint(self.left) * self._batch_size
        for _ in self.left:
            pass

    def _forget(self, _: Any) -> None:
        """Hold no rows for an iterator that is gone."""
        self.end, self.left = self.end - length_hint(self.left) * self._batch_size, iter(())


class EpochIterator(chain[Any]):
    """What an epoch's rows come to, made a block at a time. `itertools.chain` hands it out, so that neither a row nor a
    batch costs a Python frame.
    """

    place: Drawn
    _walker: Walker

    @classmethod
    def over(cls, walker: Walker, batch_size: int = 1, drop_last: bool = False) -> Self:
        """An iterator that begins an epoch at its first draw."""

        def blocks() -> Iterator[Iterator[Any]]:
            place: Drawn = this().place
            epoch = place.epoch = walker.begin(this())
            place.end = epoch.start
            while place.end < len(epoch):
                yield this()._block(epoch)
                this().check()

        it: Any = cls.from_iterable(blocks())  # an instance of this class, though typed as a chain
        # Weakly: an iterator that a loop breaks off must not wait, with its epoch's rows, for the garbage collector.
        this: Any = weakref.ref(it)
        it._walker, it.place = walker, Drawn(it, batch_size, drop_last)
        return cast(Self, it)

    def _block(self, epoch: Epoch) -> Iterator[Any]:
        """What the next rows come to; moves `place.end` behind them."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn, those before a resume included."""
        return self.place.position

    def check(self) -> None:
        """Raise if another epoch was set since this iterator began."""
        if self.place.stale:
            raise ResumeError(self.place.stale)

    def state_dict(self) -> dict[str, Any]:
        """As the sampler's."""
        return self._walker.state_of(self.place.epoch, self.position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the sampler's: this iterator's first draw goes on from there."""
        self._walker.load_state_dict(state)
        self._walker.resumed_by(self)


class SampleIterator(EpochIterator):
    """Rows one at a time."""

    def _block(self, epoch: Epoch) -> Iterator[int]:
        place = self.place
        stop = min(place.end + _FEW, len(epoch))
        place.left = iter(epoch.take(place.end, stop).tolist())
        place.end = stop
        return place.left


class BatchIterator(EpochIterator):
    """Rows in lists or arrays of `batch_size`, the last one shorter unless `drop_last`."""

    batch_size: int
    _drop_last: bool
    _arrays: bool

    @classmethod
    def of(cls, walker: Walker, batch_size: int, drop_last: bool, arrays: bool) -> Self:
        """As `over`."""
        it = cls.over(walker, batch_size, drop_last)
        it.batch_size, it._drop_last, it._arrays = batch_size, drop_last, arrays
        return it

    def _block(self, epoch: Epoch) -> Iterator[Any]:
        size, place = self.batch_size, self.place
        stop = min(place.end + max(_MANY // size, 1) * size, epoch.reach(place.end))
        rows = epoch.take(place.end, stop)
        whole = len(rows) - len(rows) % size
        if not whole:
            place.end, place.left = stop, iter(())
            return iter([] if self._drop_last else [rows.astype(np.int64) if self._arrays else rows.tolist()])
        place.end += whole  # what is left over is taken again, as a block of its own
        if self._arrays:
            place.left = iter(rows[:whole].astype(np.int64).reshape(-1, size))
            return place.left
        batches = Struct(f"{size}{rows.dtype.char}")  # makes ints sooner than `tolist` does
        place.left = batches.iter_unpack(np.ascontiguousarray(rows[:whole]).data)
        return map(list, place.left)
