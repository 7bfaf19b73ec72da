"""Iterators over an epoch, which give single rows, or lists or arrays of rows, at C speed.

Each iterator has an epoch and a position of its own.
"""

import weakref
from collections.abc import Iterator
from itertools import chain
from operator import length_hint
from struct import Struct
from typing import Any, Protocol, Self, cast

import numpy as np

from adaptive_sampler.errors import ResumeError

# How many rows of an order are taken at a time:
_FEW = 1 << 12  # for single rows, because lists of this length stay in the cache
_MANY = 1 << 16  # for batches


class Epoch(Protocol):
    """What an iterator walks: the rows of one epoch by position."""

    number: int  # the epoch
    start: int  # the position at which the epoch was begun or resumed
    whole: bool  # whether rows can be taken at any position and time, because no plan is made within the epoch

    def __len__(self) -> int:
        """How many samples the epoch has."""

    def take(self, start: int, stop: int) -> np.ndarray:
        """The rows at positions `start` … `stop` − 1."""

    def reach(self, position: int) -> int:
        """The position up to which rows can be taken from `position` on in one call of `take`."""


class Progress(Protocol):
    """How far an epoch has been drawn, as whoever has begun the epoch reports it to the sampler."""

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn, including those before a resume."""

    @property
    def let_go(self) -> bool:
        """Whether nobody can draw any more, because the iterator is gone."""

    def reached(self, delivered: int) -> int:
        """The position of all ranks together, once this process has been given `delivered` samples."""

    def rows_from(self, delivered: int, size: int) -> np.ndarray | None:
        """The `size` rows that follow the `delivered` samples, fewer at the end of the epoch; None if not known."""

    def size_from(self, delivered: int, size: int) -> int:
        """How many samples the batch has that follows the `delivered` samples; `size` if that is not known."""

    def invalidate(self, why: str) -> None:
        """Make the next draw raise `ResumeError`, with the message `why`."""


class Walker(Protocol):
    """What an iterator needs of a sampler."""

    def begin(self, iterator: Any) -> Epoch:
        """The epoch that `iterator` is to walk; called at its first draw."""

    def state_of(self, epoch: Any, position: int) -> dict[str, Any]:
        """The state of a walk at `position` of `epoch`; None: the epoch has not begun."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""

    def resumed_by(self, iterator: Any) -> None:
        """Note that the state was loaded through `iterator`."""


class Drawn:
    """How far an iterator has come, in an object of its own, so that a sampler still knows it when the iterator is gone.

    Only when the iterator is gone can a sampler tell by itself that a loop is over. That no row is left does not say so:
    to fill the last, short batch, a loader asks for one row too many, and only then is that batch trained on.
    """

    def __init__(self, iterator: "EpochIterator", batch_size: int, drop_last: bool) -> None:
        self.iterator: weakref.ref[EpochIterator] = weakref.ref(iterator, self._forget)
        self.epoch: Epoch | None = None
        self.end = (
            0  # the position at which the block ends that is being handed out; beyond the epoch's if it were whole
        )
        self.left: Iterator[Any] = iter(())  # the items of that block that are still to be handed out
        self.stale = ""  # why the next draw must raise; "" if it need not
        self._batch_size, self._drop_last = batch_size, drop_last

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn, including those before a resume.

        With `drop_last`, all count as drawn once the rest is too short for a batch.
        """
        position = self.end - length_hint(self.left) * self._batch_size
        if self.epoch is None:
            return position
        length = len(self.epoch)
        return length if position > length or (self._drop_last and length - position < self._batch_size) else position

    @property
    def let_go(self) -> bool:
        """Whether the iterator is gone."""
        return self.iterator() is None

    def reached(self, delivered: int) -> int:
        """`delivered` itself, because no other rank draws from this iterator."""
        return delivered

    def rows_from(self, delivered: int, size: int) -> np.ndarray | None:
        """The rows that follow; None if plans are made within the epoch, because taking rows would make them."""
        if self.epoch is None or not self.epoch.whole:
            return None
        return self.epoch.take(delivered, min(delivered + size, len(self.epoch)))

    def size_from(self, delivered: int, size: int) -> int:
        """The length of the next batch: only the last one is short. For single rows, a loader decides, so `size`."""
        return (
            size if self.epoch is None or self._batch_size == 1 else min(self._batch_size, len(self.epoch) - delivered)
        )

    def invalidate(self, why: str) -> None:
        """Make the next draw raise `ResumeError`, with the message `why`, and hand out nothing more."""
        self.stale, self.end = why, self.end - length_hint(self.left) * self._batch_size
        for _ in self.left:
            pass

    def _forget(self, _: Any) -> None:
        """Let go of the rows of an iterator that is gone, but keep its position."""
        self.end, self.left = self.end - length_hint(self.left) * self._batch_size, iter(())


class EpochIterator(chain[Any]):
    """The items of an epoch, rows or batches, made a block at a time.

    `itertools.chain` hands them out, so that no item costs a Python call.
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
        # Weak, to avoid a reference cycle: an iterator that a loop leaves early is then freed at once, with its rows.
        this: Any = weakref.ref(it)
        it._walker, it.place = walker, Drawn(it, batch_size, drop_last)
        return cast(Self, it)

    def _block(self, epoch: Epoch) -> Iterator[Any]:
        """The items of the next rows; moves `place.end` past these rows."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn, including those before a resume."""
        return self.place.position

    def check(self) -> None:
        """Raise `ResumeError` if this iterator was invalidated, as when another epoch was set since it began."""
        if self.place.stale:
            raise ResumeError(self.place.stale)

    def state_dict(self) -> dict[str, Any]:
        """The state of the sampler at this iterator's position."""
        return self._walker.state_of(self.place.epoch, self.position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state into the sampler; the first draw of this iterator goes on from there."""
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
        """As `over`, for batches; `arrays`: give arrays, (batch_size,) int64, instead of lists."""
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
        if len(rows) <= _FEW:
            return self._at_once(rows, whole if self._drop_last or stop < len(epoch) else len(rows))
        place.end += whole  # the rows of the last, short batch are taken again, as a block of their own
        if self._arrays:
            place.left = iter(rows[:whole].astype(np.int64).reshape(-1, size))
            return place.left
        batches = Struct(f"{size}{rows.dtype.char}")  # makes ints faster than `tolist` does
        place.left = batches.iter_unpack(np.ascontiguousarray(rows[:whole]).data)
        return map(list, place.left)

    def _at_once(self, rows: np.ndarray, number: int) -> Iterator[Any]:
        """The batches of the first `number` of few rows: all, with a short batch, only at the epoch's end."""
        size, place = self.batch_size, self.place
        items: Any = rows.astype(np.int64) if self._arrays else rows.tolist()
        batches = [items[start : start + size] for start in range(0, number, size)]
        # As if the short batch were whole, so that `position` counts by whole ones; that ends at the epoch's end.
        place.end += len(batches) * size
        place.left = iter(batches)
        return place.left
