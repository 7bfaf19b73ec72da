"""A dataset wrapper that adds its row to each sample, because a loader does not tell which rows it delivered."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.store import ScoreStore


class IndexedDataset(Dataset[Any]):
    """Wraps a dataset so that each sample carries its row: `indexed[i]` is `(i, sample)`.

    With `key`, samples must be dicts, and `indexed[i]` is a copy of the dict with the entry `sample[key] = i`. It must
    be the outermost wrapper, because the rows that a sampler yields are its indices.

    If `store` is given, dataset and store must have the same length and, if both have one, the same fingerprint. Raises
    `InvalidValue` if they do not, for a stream, and for a dataset inside which an IndexedDataset lies; `indexed[i]`
    raises it for a sample that `key` cannot be added to.
    """

    def __init__(self, dataset: Any, store: ScoreStore | None = None, *, key: str | None = None) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
            raise InvalidValue(
                f"{type(dataset).__name__} is a stream: its samples have no index. Use adaptive_sampler.webdataset.PlannedShards, "
                "or let the stream yield (row, sample) and call hook.record(rows, ...)."
            )
        if isinstance(dataset, IndexedDataset) or nested_in(dataset):
            raise InvalidValue(
                "an IndexedDataset lies inside another dataset: it must be the outermost, or its rows are not those that the "
                "sampler names. Wrap last: IndexedDataset(Subset(dataset, ...))."
            )
        if store is not None:
            _check(dataset, store)
        self.dataset, self.key = dataset, key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and index < 0:
            index += len(self)  # a row is counted from the front
        return self._with_row(index, self.dataset[index])

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> list[Any]:
        """The samples of a whole batch, by the dataset's own `__getitems__` if it has one."""
        rows = indices.tolist() if isinstance(indices, np.ndarray) else indices
        fetch = getattr(self.dataset, "__getitems__", None)
        samples = fetch(indices) if fetch else [self.dataset[i] for i in rows]
        return [self._with_row(i, sample) for i, sample in zip(rows, samples, strict=True)]

    def _with_row(self, index: int, sample: Any) -> Any:
        if self.key is None:
            return index, sample
        if not isinstance(sample, Mapping):
            raise InvalidValue(
                f"key={self.key!r} needs dict samples, this one is a {type(sample).__name__}. Leave key out."
            )
        if self.key in sample:
            raise InvalidValue(f"key={self.key!r}: the sample has an entry of that name already. Choose another key.")
        return {**sample, self.key: index}


def _check(dataset: Any, store: ScoreStore) -> None:
    if len(dataset) != len(store):
        raise InvalidValue(
            f"the dataset has {len(dataset)} samples, the store {len(store)} rows: scores would belong to other samples. "
            "Make a store with n=len(dataset), or store.grow(len(dataset)) if samples were appended."
        )
    ours, theirs = store.about["fingerprint"], getattr(dataset, "_fingerprint", None)  # Hugging Face datasets have one
    if ours is not None and theirs is not None and ours != theirs:
        raise InvalidValue(
            f"the dataset's fingerprint is {theirs!r}, the store was made for {ours!r}. Use that dataset's store."
        )


def nested_in(dataset: Any) -> bool:
    """Whether `dataset` is a wrapper, such as Subset or ConcatDataset, with an `IndexedDataset` somewhere inside."""
    seen: list[Any] = []
    inside = [] if isinstance(dataset, IndexedDataset) else _held(dataset)
    while inside:
        inner = inside.pop()
        if isinstance(inner, IndexedDataset):
            return True
        if not any(inner is other for other in seen):
            seen.append(inner)
            inside += _held(inner)
    return False


def _held(dataset: Any) -> list[Any]:
    """The datasets directly inside a Subset, ConcatDataset or StackDataset, or inside a wrapper with their attributes."""
    several = getattr(dataset, "datasets", None)
    several = list(several.values()) if isinstance(several, Mapping) else several
    one = getattr(dataset, "dataset", None)
    return [*(several if isinstance(several, (list, tuple)) else []), *([] if one is None else [one])]
