"""Batches of a sampler's rows."""

from typing import Any, Protocol, runtime_checkable

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.walk.iterators import BatchIterator, Walker


@runtime_checkable
class Sampled(Walker, Protocol):
    """A sampler that can give its rows in batches: an `AdaptiveSampler`, but no sampler of torch or a framework."""

    def __len__(self) -> int:
        """How many samples this epoch has."""

    def upcoming_length(self) -> int:
        """How many samples the epoch has that the next iterator begins."""

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch."""

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """Where the walk is."""

    def batches(self, batch_size: int, *, drop_last: bool = False, arrays: bool = False) -> "Batches":
        """Batches of this sampler's rows."""


class Batches:
    """Batches of a sampler's rows, for `DataLoader(batch_sampler=...)` or any loop. One pass is one epoch.

    A batch is a list of ints, or, with `arrays`, an array, (batch_size,) int64. Arrays are for a data set in memory whose
    `__getitems__(rows)` is `self.data[rows]`: torch and NumPy index by an array faster than by a list. Code that divides
    batches among processes, as Accelerate does, needs lists. Raises `InvalidValue` for a sampler that is not of this
    package, and for a batch size below 1.
    """

    def __init__(self, sampler: Sampled, batch_size: int, drop_last: bool = False, arrays: bool = False) -> None:
        if not isinstance(sampler, Sampled):
            raise InvalidValue(
                f"sampler={sampler!r} is none of ours: the selection would be lost. A framework may have replaced it: Lightning's "
                "fit on ranks (pass Trainer(use_distributed_sampler=False), or sampler=DistributedAdaptiveSampler(sampler) instead "
                "of batches) and its predict, which wants every row in order: give it DataLoader(dataset, batch_size=...)."
            )
        self.sampler, self.drop_last, self.arrays = sampler, bool(drop_last), bool(arrays)
        self.batch_size = whole_number("batch_size", batch_size, 1)

    def __iter__(self) -> BatchIterator:
        return BatchIterator.of(self.sampler, self.batch_size, self.drop_last, self.arrays)

    def __len__(self) -> int:
        return self._of(len(self.sampler))

    def upcoming_length(self) -> int:
        """The batches of the epoch that the next iterator begins; see `AdaptiveSampler.upcoming_length`."""
        return self._of(self.sampler.upcoming_length())

    def _of(self, samples: int) -> int:
        """How many batches so many samples give."""
        whole, rest = divmod(samples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Call `set_epoch` of the sampler."""
        self.sampler.set_epoch(epoch)

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """The state of the sampler; see `AdaptiveSampler.state_dict`."""
        return self.sampler.state_dict(delivered=delivered)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of the sampler; see `AdaptiveSampler.load_state_dict`."""
        self.sampler.load_state_dict(state)
