"""Takes the rows off a loader's batches, and checks the rows that a caller passes."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.batches import tensor_of
from adaptive_sampler.torch.data.chain import chain
from adaptive_sampler.torch.data.dataset import IndexedDataset, nested_in

_COLLATE = (
    "Begin it by `rows, samples = zip(*batch)`, collate `samples` as before, and return both: `return torch.tensor(rows), "
    "collated`."
)


def split(loader: Any, key: str | None) -> Iterator[tuple[torch.Tensor, Any]]:
    """(rows, sample) for each batch of a loader over an `IndexedDataset`; rows are (batch,) int64.

    `key`: where dict samples carry their rows. Raises `InvalidValue` for a batch without rows, and for a `collate_fn`
    that takes the dataset's samples, but not (row, sample).
    """
    begun = False
    try:
        for batch in loader:
            begun = True
            if key is not None and isinstance(batch, Mapping) and key in batch:
                sample: Any = copy.copy(batch)
                rows = sample.pop(key)
            elif isinstance(batch, (tuple, list)) and len(batch) == 2:
                rows, sample = batch
            else:
                raise InvalidValue(_no_rows(batch, loader))
            whole = integers(rows)
            if whole is None:
                raise InvalidValue(_no_rows(batch, loader))
            yield whole, sample
    except Exception as error:  # before the first batch it may be that of a collate_fn that knows no rows
        if begun or not any(map(_takes_bare_samples, chain(loader))):
            raise
        raise InvalidValue(
            f"the loader's collate_fn fails ({type(error).__name__}) because it gets (row, sample) from an IndexedDataset, and "
            f"takes samples alone. {_COLLATE}"
        ) from error


def _takes_bare_samples(link: Any) -> bool:
    """Whether a link is a loader whose collate_fn takes the samples of its dataset, and fails on (row, sample)."""
    dataset, collate = getattr(link, "dataset", None), getattr(link, "collate_fn", None)
    if collate is None or not isinstance(dataset, IndexedDataset) or dataset.key is not None or not len(dataset):
        return False
    try:
        with_rows = dataset.__getitems__([0, 0])
        collate([sample for _, sample in with_rows])
    except Exception:
        return False
    try:
        collate(with_rows)
    except Exception:
        return True
    return False


def checked_rows(given: Any, length: int | None) -> torch.Tensor:
    """`given` as a (batch,) int64 tensor on its own device; `length`: of the batch, None if not known.

    Raises `InvalidValue` for anything but one axis of integers, and for another length.
    """
    if type(given) is torch.Tensor and given.dtype is torch.int64 and given.shape == (length,):
        return given
    rows = integers(given)
    if rows is None:
        array = given if isinstance(given, torch.Tensor) else np.asarray(given)
        raise InvalidValue(
            f"rows have shape {tuple(array.shape)} and dtype {array.dtype}: one axis of integers is needed."
        )
    if length is not None and len(rows) != length:
        raise InvalidValue(f"{len(rows)} rows for {length} samples: one row a sample is needed.")
    return rows


def integers(given: Any) -> torch.Tensor | None:
    """`given` as a (batch,) int64 tensor; None if it is anything but one axis of integers."""
    if not isinstance(given, torch.Tensor):
        array = to_host(given)  # lists too: torch takes 100 ns per element of a list, NumPy a fifth of that
        if array.shape == (0,):
            array = array.astype(np.int64)  # NumPy makes an empty list float64
        if array.dtype.kind not in "iu":
            return None
        given = tensor_of(array)
    if given.dtype is torch.int64:  # asked first: what a loader gives in most cases
        return given if given.ndim == 1 else None
    if given.ndim != 1 or given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        return None
    whole: torch.Tensor = given.to(torch.int64)
    return whole


def row_key(loader: Any) -> str | None:
    """The key under which a loader's dict samples carry their row; None if samples come as (row, sample).

    Raises `InvalidValue` if an `IndexedDataset` lies inside the loader's dataset instead of being it.
    """
    dataset = getattr(loader, "dataset", None)
    if nested_in(dataset):
        raise InvalidValue(
            f"the loader's dataset is a {type(dataset).__name__} around an IndexedDataset: the sampler's rows would not be the "
            "samples' rows. IndexedDataset must be the outermost: IndexedDataset(Subset(...))."
        )
    return dataset.key if isinstance(dataset, IndexedDataset) else None


def _no_rows(batch: Any, loader: Any) -> str:
    what = f"a batch of type {type(batch).__name__} carries no rows"
    indexed = [link.dataset for link in chain(loader) if isinstance(getattr(link, "dataset", None), IndexedDataset)]
    if not indexed:
        return (
            f"{what}: (rows, sample) was expected. Wrap the dataset, outermost: DataLoader(IndexedDataset(dataset), ...); for dict "
            "samples IndexedDataset(dataset, key='row')."
        )
    if indexed[0].key is not None:
        return f"{what}: the loader's collate_fn leaves out the entry {indexed[0].key!r} of its samples. Keep it in the batch."
    return f"{what}: the loader's collate_fn gets (row, sample) from an IndexedDataset, and leaves the rows out. {_COLLATE}"
