"""Which rows the next loss call belongs to: taken off the batches, claimed once, refused when in doubt."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.dataset import IndexedDataset, nested_in
from adaptive_sampler.torch.transfer import tensor_of


class PendingRows:
    """The rows of the batch that a watched loader delivered last, until a loss call claims them."""

    def __init__(self) -> None:
        self._rows: torch.Tensor | None = None
        self._owner: object = None  # the iterator that delivered them
        self._unclaimed = 0  # batches delivered since the last claim
        self._iterators: list[object] = []  # that may deliver: asked for, and not ended
        # Those asked for before a call was in doubt: the consumer may still hold a batch that another one delivered.
        self._doubted: list[object] = []

    def expect(self, owner: object) -> None:
        """An iterator was asked for."""
        self._iterators.append(owner)

    def put(self, rows: torch.Tensor, owner: object) -> None:
        """A batch was delivered."""
        self._rows, self._owner = rows, owner
        self._unclaimed += 1

    def forget(self, owner: object = None) -> None:
        """Nothing is pending, because the batch is left out or (with `owner`) its iterator has ended."""
        if owner is None:
            self._doubted.clear()
        else:
            self._iterators = [other for other in self._iterators if other is not owner]
            self._doubted = [other for other in self._doubted if other is not owner]
        if owner is None or owner is self._owner:
            self._settle()

    def _settle(self) -> None:
        self._rows, self._owner, self._unclaimed = None, None, 0

    def claim(self, length: int) -> torch.Tensor:
        """The rows for a loss call on `length` samples. Raises `InvalidValue` where they might be another batch's."""
        rows, unclaimed = self._rows, self._unclaimed
        if rows is None:
            raise InvalidValue(
                "no rows for this loss call: either no batch of hook.watch(loader) came before it, or its rows were used "
                "by an earlier call. Pass rows= (micro-batches, several losses a step), or compute under "
                "torch.no_grad() to record nothing."
            )
        if unclaimed > 1 or self._owner in self._doubted:
            self._doubted = list(self._iterators)
            self._settle()
            raise InvalidValue(
                f"hook.watch(loader) delivered {unclaimed} batches since the last loss call (or several before an earlier one), so "
                "this call's rows are in doubt. Make watch the outermost iterator (around the prefetcher, not inside it), call "
                "hook.forget() for a batch that you leave out, or pass rows=."
            )
        if len(rows) != length:
            raise InvalidValue(
                f"the loss call has {length} samples, the watched batch {len(rows)} rows: they do not belong together. Pass rows= "
                "with the rows of these samples (micro-batches, filtered batches)."
            )
        self._settle()
        return rows


def split(batches: Any, key: str | None) -> Iterator[tuple[torch.Tensor, Any]]:
    """(rows, sample) for each batch of a loader over an `IndexedDataset`."""
    for batch in batches:
        if key is not None and isinstance(batch, Mapping) and key in batch:
            sample: Any = copy.copy(batch)
            rows = sample.pop(key)
        elif isinstance(batch, (tuple, list)) and len(batch) == 2:
            rows, sample = batch
        else:
            raise InvalidValue(_no_rows(batch))
        whole = integers(rows)
        if whole is None:
            raise InvalidValue(_no_rows(batch))
        yield whole, sample


def checked_rows(given: Any, length: int | None) -> torch.Tensor:
    """`given` as rows (batch,) int64 on their device; `length`: of the batch, where it is known. Raises `InvalidValue`."""
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
    """`given` as a tensor (batch,) int64; None where it is not one axis of integers."""
    if not isinstance(given, torch.Tensor):
        array = to_host(given)  # a list too: by way of NumPy in a fifth of torch's 100 ns an element
        if array.shape == (0,):
            array = array.astype(np.int64)  # an empty list has no type of its own
        if array.dtype.kind not in "iu":
            return None
        given = tensor_of(array)
    if given.ndim != 1 or given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        return None
    whole: torch.Tensor = given.to(torch.int64)
    return whole


def row_key(loader: Any) -> str | None:
    """The key under which a loader's dict samples carry their row. Raises if the `IndexedDataset` is not the outermost."""
    dataset = getattr(loader, "dataset", None)
    if nested_in(dataset):
        raise InvalidValue(
            f"the loader's dataset is a {type(dataset).__name__} around an IndexedDataset: the sampler's rows would not be the "
            "samples' rows. IndexedDataset must be the outermost: IndexedDataset(Subset(...))."
        )
    return dataset.key if isinstance(dataset, IndexedDataset) else None


def _no_rows(batch: Any) -> str:
    return (
        f"a batch of type {type(batch).__name__} carries no rows: (rows, sample) was expected. Wrap the dataset, outermost: "
        "DataLoader(IndexedDataset(dataset), ...); for dict samples IndexedDataset(dataset, key='row')."
    )
