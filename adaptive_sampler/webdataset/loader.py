"""A DataLoader over planned shards that plans every epoch and knows what it has delivered."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from torch.utils.data import DataLoader, default_collate, default_convert


class Loaded(Protocol):
    """What a loader needs from its planned shards, which are a torch IterableDataset as well."""

    stages: tuple[Any, ...]

    def begin(self, workers: int) -> Any: ...
    def delivered(self, worker: int, taken: int) -> None: ...
    def ended(self) -> None: ...
    def position(self) -> tuple[int, int]: ...
    def shares(self, workers: int) -> list[int]: ...
    def set_epoch(self, epoch: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> None: ...


class PlannedLoader:
    """A DataLoader over planned shards: each pass over it is an epoch, which is planned at the pass's first batch.

    `dataloader`: the torch DataLoader inside. `dataset`: the planned shards.
    """

    def __init__(self, shards: Loaded, options: dict[str, Any]) -> None:
        convert = default_convert if options.get("batch_size", 1) is None else default_collate
        collate = options.pop("collate_fn", None) or convert
        self.dataset = shards
        self.dataloader: DataLoader[Any] = DataLoader(cast(Any, shards), collate_fn=_Marked(shards, collate), **options)

    def __iter__(self) -> Iterator[Any]:
        if self.dataloader.num_workers:  # without workers, the stream begins the epoch itself
            self.dataset.begin(self.dataloader.num_workers)
        for worker, taken, batch in self.dataloader:
            self.dataset.delivered(worker, taken)
            yield batch
        self.dataset.ended()

    def __len__(self) -> int:
        """Batches of the present epoch on this rank. Raises TypeError if there are stages, which decide the number."""
        loader = self.dataloader
        if self.dataset.stages:
            raise TypeError("the stages of this stream decide how many items there are: a length would be a guess.")
        shares = self.dataset.shares(max(loader.num_workers, 1))
        if loader.batch_size is None:
            return sum(shares)
        return sum(n // loader.batch_size if loader.drop_last else -(-n // loader.batch_size) for n in shares)

    def set_epoch(self, epoch: int) -> None:
        """See PlannedShards.set_epoch. Without a call, every pass goes on to the next epoch."""
        self.dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """See PlannedShards.state_dict. It counts the batches that were delivered, not those that were prefetched."""
        return self.dataset.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """See PlannedShards.load_state_dict."""
        self.dataset.load_state_dict(state)


class _Marked:
    """Collates a batch in the worker -> (worker, visits that the worker has delivered with it, the batch)."""

    def __init__(self, shards: Loaded, collate: Callable[[Any], Any]) -> None:
        self._shards, self._collate = shards, collate

    def __call__(self, items: Any) -> tuple[int, int, Any]:
        # In a worker, `_shards` and the worker's data set are one object: they were pickled together, or forked.
        worker, taken = self._shards.position()
        return worker, taken, self._collate(items)
