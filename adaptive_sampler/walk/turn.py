"""One epoch's turn in a sampler: where the epoch starts, who has begun it, and whether the loop over it has ended."""

import warnings
import weakref
from collections.abc import Callable
from typing import Any

from adaptive_sampler.errors import ResumeError
from adaptive_sampler.walk.epochs import BlockedEpoch, PlannedEpoch
from adaptive_sampler.walk.iterators import EpochIterator, Progress


class Turn:
    """What a sampler knows of its current epoch.

    The sampler makes a new turn whenever it comes to an epoch: by itself, by `set_epoch`, or by loading a state. From a
    loaded state come `start`, the position at which the epoch was left, `length`, the samples of the epoch, and, with
    `replan=k`, `block`, the length and the mark of the block.
    """

    def __init__(self, start: int = 0, length: int | None = None, block: dict[str, Any] | None = None) -> None:
        self.start, self.length, self.block = start, length, block or {}
        self.active: Progress | None = None  # how far whoever has begun the epoch has come
        self.walking: PlannedEpoch | BlockedEpoch | None = None  # the rows of the epoch, once it has begun
        self.again = False  # whether the next iterator walks this epoch again
        self.over: bool | None = None  # whether the loop has ended; None if no loop reports it
        self.when_empty: Callable[[], None] | None = None  # called if the epoch is begun with nothing left of it
        self._times = 0  # how often the epoch was begun
        self._resumer: weakref.ref[EpochIterator] | None = None  # the iterator through which the state was loaded

    def __getstate__(self) -> dict[str, Any]:
        """The state for worker processes, which draw nothing themselves."""
        gone = {"active": None, "walking": None, "when_empty": None, "_resumer": None}
        return self.__dict__ | gone

    @property
    def drawn(self) -> int:
        """How many samples of the epoch were drawn, including those before a resume."""
        return self.start if self.active is None else self.active.position

    @property
    def nothing_left(self) -> bool:
        """Whether the loaded state is the end of the epoch."""
        return bool(self.start) and self.length is not None and self.start >= self.length

    def mark(self, block: int) -> tuple[int, int, int]:
        """The mark of the loaded block, (round, lap, cursor); see `BlockedEpoch`. `block`: rows of a block now.

        Raises `ResumeError` if the state was saved with blocks of another length.
        """
        if block != self.block.get("block", block):
            raise ResumeError(
                f"the state was saved with blocks of {self.block['block']} rows, replan batches are now {block}: resume with the "
                "batch size and the replan it had."
            )
        number, lap, cursor = self.block.get("mark", (0, 0, 0))
        return number, lap, cursor

    def goes_on(self, iterator: EpochIterator | None) -> bool:
        """Whether an iterator that has not begun is to walk the next epoch instead of this one.

        A StatefulDataLoader that loads the state of a finished epoch first makes an iterator just to load the state. That
        iterator is no pass over the data. The next iterator then skips the empty rest of the finished epoch.
        """
        if self.again:
            return False
        if self.active is not None:
            return True
        primed = self._resumer is not None and self._resumer() is not iterator
        return primed and self.nothing_left

    @property
    def next_goes_on(self) -> bool:
        """As `goes_on`, for an iterator that is still to be made."""
        return not self.again and (self.active is not None or (self._resumer is not None and self.nothing_left))

    def resumed_by(self, iterator: EpochIterator) -> None:
        """Note that the state was loaded through this iterator's `load_state_dict`."""
        self._resumer = weakref.ref(iterator)

    def begun(self, progress: Progress, walking: PlannedEpoch | BlockedEpoch) -> None:
        """Note who walks the epoch now, and its rows; if nothing was left of it, call `when_empty`."""
        if self.nothing_left and self.when_empty is not None:
            self.when_empty()
        self.active, self.walking, self.length = progress, walking, len(walking)
        self.again, self.over, self.when_empty, self._resumer = False, None, None, None
        self._times += 1

    def is_over(self, position: int) -> bool:
        """Whether the loop over the epoch has ended: as the loop reported, or, if it reports nothing, by `was_left`."""
        return self.was_left(position) if self.over is None else self.over

    def was_left(self, position: int) -> bool:
        """Whether `position` is the end of the epoch and nobody holds the iterator any more."""
        return self.active is not None and self.active.let_go and self.length is not None and position >= self.length

    def warn_of_repeats(self, epoch: int, length: int) -> None:
        """Warn if the epoch is begun for the third time or more, and was left early the last time."""
        if self._times < 2 or self.drawn >= length:
            return
        warnings.warn(
            f"epoch {epoch} is begun {self._times + 1} times, and was left after {self.drawn} of {length} samples: "
            f"set_epoch({epoch}) is told each time, so the same first samples come again. Accelerate counts only passes that "
            "were not left early: iterate LossHook.watch(loader), which counts every pass, or set loader.iteration yourself.",
            RuntimeWarning,
            stacklevel=4,
        )

    def end_as_outdated(self, epoch: int) -> None:
        """Invalidate the iterator that has begun this epoch, because its plan is from before the latest scores.

        That iterator drew before the loop began, because a loader was asked for its state.
        """
        if self.active is not None:
            self.active.invalidate(
                f"this iterator drew {self.drawn} samples of epoch {epoch} before its loop began, by a plan from before the latest "
                "scores (Accelerate, with use_stateful_dataloader and workers, asks a loader for its state when it prepares). "
                "Iterate LossHook.watch(loader), which begins anew, or prepare the loader once the scores are there."
            )


class WholeEpoch:
    """The progress of an epoch that is handed out at once, as a sequence."""

    let_go = True

    def __init__(self) -> None:
        self.position = 0

    def reached(self, delivered: int) -> int:
        """`delivered` itself, because the sequence is not divided among ranks."""
        return delivered

    def rows_from(self, delivered: int, size: int) -> None:
        """None: whoever holds the sequence may ask for any of its rows next."""

    def size_from(self, delivered: int, size: int) -> int:
        """`size` itself, because batches of the sequence are made elsewhere."""
        return size

    def invalidate(self, why: str) -> None:
        """Do nothing: nothing will be drawn from here."""
