"""The clock of a store: the epoch that observations belong to, and how many of its samples were delivered."""

import weakref
from typing import Protocol

from adaptive_sampler.checks import LAST_EPOCH, whole_number


class WhoWalks(Protocol):
    """Whose epochs a clock shows: a sampler."""

    def whose(self) -> str:
        """A text that only samplers of the same settings have in common."""


class Clock:
    """The current epoch and its delivered samples, set only by the methods here; code that counts either calls them.

    `epoch`: the epoch of new observations. `delivered`: how many samples of it a watched loader has delivered. A commit
    keeps both, and whose they are, so that a sampler's state can be compared with the commit that it is to be resumed from.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch, self._delivered = epoch, 0
        self._walker: weakref.ref[WhoWalks] | None = None  # whose epoch that is; None if it is nobody's

    @property
    def epoch(self) -> int:
        """The epoch of observations that come without one."""
        return self._epoch

    @property
    def delivered(self) -> int:
        """How many samples of the epoch were delivered."""
        return self._delivered

    @property
    def whose(self) -> str | None:
        """`WhoWalks.whose` of the sampler whose epoch and delivered samples these are; None if they are no sampler's."""
        walker = None if self._walker is None else self._walker()
        return None if walker is None else walker.whose()

    def enter(self, walker: WhoWalks, epoch: int, delivered: int = 0) -> None:
        """Note that a sampler comes to `epoch`; `delivered`: how many of its samples were delivered before a resume."""
        self._epoch, self._delivered, self._walker = epoch, delivered, weakref.ref(walker)

    def show(self, epoch: int) -> None:
        """Note that a batch of `epoch` is here; a loop without one of our samplers calls this to count its epochs.

        Raises `InvalidValue` unless `epoch` is a whole number from 0 to `LAST_EPOCH`.
        """
        epoch = whole_number("epoch", epoch, 0, most=LAST_EPOCH)
        if epoch != self._epoch:
            self._epoch, self._walker = epoch, None

    def deliver(self, delivered: int, walker: WhoWalks | None = None) -> None:
        """Note how many samples of the epoch were delivered so far; `walker`: the sampler whose epoch it is, if it is one's."""
        self._delivered = delivered
        if walker is not None:
            self._walker = weakref.ref(walker)
