"""A sampler's rows in batches."""

from typing import Any, Protocol, runtime_checkable

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.walk.iterators import BatchIterator, Walker


@runtime_checkable
class Sampled(Walker, Protocol):
    """What makes batches of itself: an `AdaptiveSampler`, and no sampler that is not ours."""

    def __len__(self) -> int:
        """Samples in this epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch."""

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """Where the walk is."""

    def batches(self, batch_size: int, *, drop_last: bool = False, arrays: bool = False) -> "Batches":
        """These."""


class Batches:
    """Batches of a sampler's rows, for `DataLoader(batch_sampler=...)` or any loop. One pass is one epoch.

    A batch is a list of ints, or, with `arrays`, an array (batch_size,) int64: for a data set in memory whose
    `__getitems__(rows)` is `self.data[rows]`, which torch and NumPy look up sooner than a list. What deals batches out
    anew, as Accelerate does among processes, needs lists.
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
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """As the sampler's."""
        self.sampler.set_epoch(epoch)

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """As the sampler's."""
        return self.sampler.state_dict(delivered=delivered)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the sampler's."""
        self.sampler.load_state_dict(state)
