"""Which rows the next loss call belongs to: taken off the batches, claimed once, refused when in doubt."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.dataset import IndexedDataset, nested_in


class PendingRows:
    """The rows of the batch that a watched loader delivered last, until a loss call claims them."""

    def __init__(self) -> None:
        self._rows: torch.Tensor | None = None
        self._owners: list[object] = []  # the iterators that delivered since the last claim, the newest last
        self._unclaimed = 0  # batches that they delivered
        self._doubted: list[object] = []  # iterators that ran ahead of the loss calls once, and so may again

    def put(self, rows: torch.Tensor, owner: object) -> None:
        """A batch was delivered."""
        self._rows = rows
        self._owners = [*(other for other in self._owners if other is not owner), owner]
        self._unclaimed += 1

    def forget(self, owner: object = None) -> None:
        """Nothing is pending, because the batch is left out or (with `owner`) its iterator has ended."""
        if owner is None:
            self._doubted.clear()
        else:
            self._doubted = [other for other in self._doubted if other is not owner]
        if owner is None or (self._owners and owner is self._owners[-1]):
            self._settle()

    def _settle(self) -> None:
        self._rows, self._owners, self._unclaimed = None, [], 0

    def claim(self, length: int) -> torch.Tensor:
        """The rows for a loss call on `length` samples. Raises `InvalidValue` where they might be another batch's."""
        rows, owners, unclaimed = self._rows, self._owners, self._unclaimed
        if rows is None:
            raise InvalidValue(
                "no rows for this loss call: either no batch of hook.watch(loader) came before it, or its rows were used "
                "by an earlier call. Pass rows= (micro-batches, several losses a step), or compute under "
                "torch.no_grad() to record nothing."
            )
        if unclaimed > 1 or owners[-1] in self._doubted:
            self._doubted += [owner for owner in owners if owner not in self._doubted]
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
        rows = torch.as_tensor(rows)
        if rows.ndim != 1 or rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
            raise InvalidValue(_no_rows(batch))
        yield rows.to(torch.int64), sample


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
