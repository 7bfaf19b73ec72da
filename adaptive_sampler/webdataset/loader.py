"""A DataLoader over planned shards that plans every epoch and knows what it has delivered."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from torch.utils.data import DataLoader, default_collate, default_convert


class Loaded(Protocol):
    """What a loader asks of the planned shards that it is over; a torch IterableDataset as well."""

    stages: tuple[Any, ...]

    def begin(self, workers: int) -> Any: ...
    def delivered(self, worker: int, taken: int) -> None: ...
    def position(self) -> tuple[int, int]: ...
    def shares(self, workers: int) -> list[int]: ...
    def set_epoch(self, epoch: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> None: ...


class PlannedLoader:
    """Iterate it once an epoch. Planning happens at a pass's first batch; each pass is an epoch.

    `dataloader` is the torch DataLoader inside, `dataset` the stream.
    """

    def __init__(self, shards: Loaded, options: dict[str, Any]) -> None:
        convert = default_convert if options.get("batch_size", 1) is None else default_collate
        collate = options.pop("collate_fn", None) or convert
        self.dataset = shards
        self.dataloader: DataLoader[Any] = DataLoader(cast(Any, shards), collate_fn=_Marked(shards, collate), **options)

    def __iter__(self) -> Iterator[Any]:
        if self.dataloader.num_workers:  # without, the stream begins the epoch itself
            self.dataset.begin(self.dataloader.num_workers)
        for worker, taken, batch in self.dataloader:
            self.dataset.delivered(worker, taken)
            yield batch

    def __len__(self) -> int:
        """Batches of the present epoch on this rank. Raises TypeError where stages decide how many there are."""
        loader = self.dataloader
        if self.dataset.stages:
            raise TypeError("the stages of this stream decide how many items there are: a length would be a guess.")
        shares = self.dataset.shares(max(loader.num_workers, 1))
        if loader.batch_size is None:
            return sum(shares)
        return sum(n // loader.batch_size if loader.drop_last else -(-n // loader.batch_size) for n in shares)

    def set_epoch(self, epoch: int) -> None:
        """As PlannedShards.set_epoch; without it, every pass goes on to the next epoch."""
        self.dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """As PlannedShards.state_dict; counts the batches that were handed out, not those prefetched."""
        return self.dataset.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """As PlannedShards.load_state_dict."""
        self.dataset.load_state_dict(state)


class _Marked:
    """Collates in the worker, and marks the batch with how far its worker had come."""

    def __init__(self, shards: Loaded, collate: Callable[[Any], Any]) -> None:
        self._shards, self._collate = shards, collate

    def __call__(self, items: Any) -> tuple[int, int, Any]:
        # In a worker this is the very object that is its data set: both were pickled together, or forked.
        worker, taken = self._shards.position()
        return worker, taken, self._collate(items)
