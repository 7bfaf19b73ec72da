"""One epoch's turn in a sampler: from where it is walked, who has begun it, and whether its loop is over."""

import warnings
import weakref
from collections.abc import Callable
from typing import Any

from adaptive_sampler.errors import ResumeError
from adaptive_sampler.walk.epochs import BlockedEpoch, PlannedEpoch
from adaptive_sampler.walk.iterators import EpochIterator, Progress


class Turn:
    """A new one for each epoch that a sampler comes to, by itself, by `set_epoch`, or by a state that is loaded.

    `start`, `length`, `block`: what a loaded state says of where the epoch was left.
    """

    def __init__(self, start: int = 0, length: int | None = None, block: dict[str, Any] | None = None) -> None:
        self.start, self.length, self.block = start, length, block or {}
        self.active: Progress | None = None  # of whoever has begun it
        self.walking: PlannedEpoch | BlockedEpoch | None = None
        self.again = False  # whether the next iterator walks it again
        self.over: bool | None = None  # whether its loop is; None where no loop tells
        self.when_empty: Callable[[], None] | None = None  # what is to happen where nothing of it is left
        self._times = 0  # how often it was begun
        self._resumer: weakref.ref[EpochIterator] | None = None  # the iterator by which a loader loaded its state

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes, which walk nothing."""
        gone = {"active": None, "walking": None, "when_empty": None, "_resumer": None}
        return self.__dict__ | gone

    @property
    def drawn(self) -> int:
        """How many of its samples were drawn, those before a resume included."""
        return self.start if self.active is None else self.active.position

    @property
    def nothing_left(self) -> bool:
        """Whether the state that was loaded lies at its end."""
        return bool(self.start) and self.length is not None and self.start >= self.length

    def mark(self, block: int) -> tuple[int, int, int]:
        """Where the shuffle was left, for blocks of so many rows. Raises `ResumeError` where they were of another length."""
        if block != self.block.get("block", block):
            raise ResumeError(
                f"the state was saved with blocks of {self.block['block']} rows, replan batches are now {block}: resume with the "
                "batch size and the replan it had."
            )
        number, lap, cursor = self.block.get("mark", (0, 0, 0))
        return number, lap, cursor

    def goes_on(self, iterator: EpochIterator | None) -> bool:
        """Whether an iterator that has not begun is to walk the next epoch, not this one.

        A StatefulDataLoader that loads the state of a finished epoch first makes an iterator only to prime itself: that
        one is no epoch, and what it would have walked, nothing, is not walked by the next.
        """
        if self.again:
            return False
        if self.active is not None:
            return True
        primed = self._resumer is not None and self._resumer() is not iterator
        return primed and self.nothing_left

    def resumed_by(self, iterator: EpochIterator) -> None:
        """The state came by this iterator's `load_state_dict`."""
        self._resumer = weakref.ref(iterator)

    def begun(self, progress: Progress, walking: PlannedEpoch | BlockedEpoch) -> None:
        """Note who walks it now."""
        if self.nothing_left and self.when_empty is not None:
            self.when_empty()
        self.active, self.walking, self.length = progress, walking, len(walking)
        self.again, self.over, self.when_empty, self._resumer = False, None, None, None
        self._times += 1

    def is_over(self, position: int) -> bool:
        """Whether its loop is: as the loop told, or else because it was left behind."""
        return self.was_left(position) if self.over is None else self.over

    def was_left(self, position: int) -> bool:
        """Whether it was walked to its end and nobody holds the iterator any more."""
        return self.active is not None and self.active.let_go and self.length is not None and position >= self.length

    def warn_of_repeats(self, epoch: int, length: int) -> None:
        """Warn where it is begun once more, though it was left early each time."""
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
        """Whoever drew before the loop began, to answer for a loader's state, must not go on by scores that are no longer those."""
        if self.active is not None:
            self.active.invalidate(
                f"this iterator drew {self.drawn} samples of epoch {epoch} before its loop began, by a plan from before the latest "
                "scores (Accelerate, with use_stateful_dataloader and workers, asks a loader for its state when it prepares). "
                "Iterate LossHook.watch(loader), which begins anew, or prepare the loader once the scores are there."
            )


class WholeEpoch:
    """The progress of an epoch that is handed out at once."""

    let_go = True

    def __init__(self) -> None:
        self.position = 0

    def reached(self, delivered: int) -> int:
        """No rank shares it."""
        return delivered

    def rows_from(self, delivered: int, size: int) -> None:
        """Whoever holds the sequence asks for any of it."""

    def size_from(self, delivered: int, size: int) -> int:
        """As many as are asked for."""
        return size

    def invalidate(self, why: str) -> None:
        """Nothing will be drawn from it."""
