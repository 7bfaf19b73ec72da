"""A dataset wrapper that adds its row to each sample, because a loader does not tell which rows it delivered."""

import inspect
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.store import ScoreStore

_MISSING = object()


class IndexedDataset(Dataset[Any]):
    """Wraps a dataset so that each sample carries its row: `indexed[i]` is `(i, sample)`.

    With `key`, samples must be dicts, and `indexed[i]` is a copy of the dict with the entry `sample[key] = i`. It must
    be the outermost wrapper, because the rows that a sampler yields are its indices.

    Any attribute but its own (`dataset`, `key`) is read and set on the wrapped dataset: `classes`, `targets`,
    `transform`. What only a dataset inside that one has, as inside a `Subset`, is read and set there, but for methods
    and for what has an entry for each sample, whose rows would be others.

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
        self.key, self.dataset = key, dataset  # the dataset last: from then on, other attributes are set on it

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

    def __getattr__(self, name: str) -> Any:
        if (name.startswith("__") and name.endswith("__")) or "dataset" not in vars(self):  # before unpickling is over
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            return getattr(self.dataset, name)
        except AttributeError:
            holder = _holder(self.dataset, name)
            if holder is None or holder is self.dataset:
                raise
            return getattr(holder, name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = "dataset" not in vars(self) or name in vars(self) or hasattr(type(self), name)
        holder = None if own else _holder(self.dataset, name)
        if holder is None:
            super().__setattr__(name, value)
        else:
            setattr(holder, name, value)

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


def _holder(dataset: Any, name: str) -> Any:
    """The dataset that has the attribute `name`: `dataset`, or the nearest inside it; None if there is none."""
    if _of(dataset, name) is not _MISSING:
        return dataset
    passed_on = hasattr(dataset, name)  # by a `__getattr__` of the dataset's own
    inner, seen = dataset, [dataset]
    while (inner := getattr(inner, "__dict__", {}).get("dataset")) is not None:
        found = _of(inner, name)
        if found is not _MISSING and (passed_on or _of_any_rows(found, inner)):
            return inner
        if any(inner is other for other in seen):
            break
        seen.append(inner)
    return dataset if passed_on else None


def _of(dataset: Any, name: str) -> Any:
    """The attribute of this very object or its class, without running any code of theirs; `_MISSING` if it has none."""
    return inspect.getattr_static(dataset, name, _MISSING)


def _of_any_rows(value: Any, dataset: Any) -> bool:
    """Whether an attribute of `dataset` holds for a wrapper with other rows too: no method, nor an entry a sample."""
    if hasattr(type(value), "__get__"):
        return False
    several = isinstance(value, Sized) and not isinstance(value, (str, Mapping))
    return not several or not isinstance(dataset, Sized) or len(value) != len(dataset)


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
