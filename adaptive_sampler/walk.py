"""The iterators over an epoch: single rows at C speed, or lists of rows. Each owns its epoch and position."""

from collections.abc import Iterator
from itertools import chain
from operator import length_hint
from typing import Any, Protocol, Self, cast

import numpy as np

from adaptive_sampler.errors import ResumeError

_FEW = 1 << 12  # single rows: lists this long stay in the cache
_MANY = 1 << 16  # rows of an order taken at a time for batches


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


class SampleIterator(chain[int]):
    """Rows one at a time. `itertools.chain` hands out the ints, so that a row costs no Python frame."""

    _walker: Walker
    _epoch: Epoch | None
    _block: Iterator[int]
    _end: int
    _stale: str

    @classmethod
    def over(cls, walker: Walker) -> Self:
        """An iterator that begins an epoch at its first draw."""

        def blocks() -> Iterator[Iterator[int]]:
            epoch = it._epoch = walker.begin(it)
            it._end = epoch.start
            while it._end < len(epoch):
                stop = min(it._end + _FEW, len(epoch))
                it._block = iter(epoch.take(it._end, stop).tolist())
                it._end = stop
                yield it._block
                it.check()

        it: Any = cls.from_iterable(blocks())  # an instance of this class, though typed as a chain
        it._walker, it._epoch, it._block, it._end, it._stale = walker, None, iter(()), 0, ""
        return cast(Self, it)

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn, those before a resume included."""
        return self._end - length_hint(self._block)

    def invalidate(self, why: str) -> None:
        """Make the next draw raise: the sampler has moved to another epoch."""
        self._stale, self._end = why, self.position
        for _ in self._block:
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


class BatchIterator:
    """Rows in lists of `batch_size`, the last one shorter unless `drop_last`."""

    def __init__(self, walker: Walker, batch_size: int, drop_last: bool) -> None:
        self._walker, self.batch_size, self._drop_last = walker, batch_size, drop_last
        self._epoch: Epoch | None = None
        self._block = np.empty(0, np.int64)
        self._at = self._end = 0
        self._stale = ""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[int]:
        at, stop = self._at, self._at + self.batch_size
        if self._stale or stop > len(self._block):
            return self._refill()
        self._at = stop
        batch: list[int] = self._block[at:stop].tolist()
        return batch

    @property
    def position(self) -> int:
        """How many samples of the epoch have been drawn: all, once what is left makes no batch."""
        position = self._end - len(self._block) + self._at
        over = self._drop_last and self._epoch is not None and len(self._epoch) - position < self.batch_size
        return len(self._epoch) if over and self._epoch is not None else position

    def invalidate(self, why: str) -> None:
        """Make the next draw raise."""
        self._stale = why

    def state_dict(self) -> dict[str, Any]:
        """As the sampler's."""
        return self._walker.state_of(self._epoch, self.position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the sampler's."""
        self._walker.load_state_dict(state)

    def _refill(self) -> list[int]:
        if self._stale:
            raise ResumeError(self._stale)
        if self._epoch is None:
            self._epoch = self._walker.begin(self)
            self._end = self._epoch.start
        position, length = self._end - len(self._block) + self._at, len(self._epoch)
        stop = min(position + self.batch_size, length)
        if stop == position or (self._drop_last and stop < position + self.batch_size):
            raise StopIteration
        # Whole batches only: what is left over is taken again with the next block.
        many = max(_MANY // self.batch_size, 1) * self.batch_size
        self._block = self._epoch.take(position, min(position + many, self._epoch.reach(position)))
        self._end = position + len(self._block)
        self._at = stop - position
        batch: list[int] = self._block[: self._at].tolist()
        return batch
