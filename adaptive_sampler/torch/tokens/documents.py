"""Which document each position of a batch belongs to, and which row of the store each document has."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_sampler.arrays import on_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.rows import checked_rows
from adaptive_sampler.torch.tokens.bounds import Found


@dataclass(slots=True)
class Documents:
    """The documents of a batch.

    `rows` (documents,) int64, or None: those of the watched batch. `index` (batch, tokens) int64: the document of each
    position, −1 for none; None: each row of the batch is a document. `count`: how many documents. `misfit` () bool: whether
    the bounds do not fit the rows, where that was not looked at because it would wait for the device; None where it was.
    """

    rows: Any
    index: Tensor | None
    count: int
    misfit: Tensor | None = None

    def of_each_position(self, values: Tensor, shape: torch.Size) -> Tensor:
        """The (documents,) `values` at the positions of a batch of this `shape`, (batch, tokens); 0 where there is no document."""
        if self.index is None:
            return values[:, None].expand(shape)
        index = self.index.to(values.device)
        return torch.where(index < 0, 0, values[index.clamp(min=0)])


def row_map(rows: Any, labels: Tensor) -> Tensor | None:
    """`rows` as a row map, (batch, tokens) int64 as `labels`; None if they are rows of documents, or not given.

    Raises `InvalidValue` for a row map of another shape, or not of integers.
    """
    if isinstance(rows, list | tuple) and len(rows) and (isinstance(rows[0], list | tuple) or np.ndim(rows[0]) == 1):
        rows = _stacked(rows)
    if getattr(rows, "ndim", 1) != 2:
        return None
    given = rows if isinstance(rows, Tensor) else torch.as_tensor(rows)
    if given.shape != labels.shape:
        raise InvalidValue(
            f"the row map has shape {tuple(given.shape)}, and labels {tuple(labels.shape)}: both are (batch, tokens), the row of "
            "each token's document and -1 for padding."
        )
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise InvalidValue(f"the row map has dtype {given.dtype}: rows are integers. Cast it to int64.")
    return given.to(torch.int64)


def _stacked(rows: list[Any] | tuple[Any, ...]) -> Tensor:
    """A row map of lists or arrays, one for each row of the batch. Raises `InvalidValue` for several lengths."""
    try:
        return torch.stack([torch.as_tensor(one) for one in rows])
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValue(
            f"the row map is a {type(rows).__name__} that makes no array: it is (batch, tokens) integers, as labels are, the row "
            "of each token's document and -1 for padding. Pad its rows to one length with -1."
        ) from error


def same_document(bounds: list[Found], mapped: Tensor | None, labels: Tensor) -> Tensor | None:
    """(batch, tokens − 1) bool: whether a position and the next are of one document; None: all of a row of the batch are."""
    same = None
    for index in (*(one.index for one in bounds), mapped):
        if index is not None:
            both = (index[:, 1:] == index[:, :-1]).to(labels.device)
            same = both if same is None else same & both
    return same


def documents_of(
    bounds: list[Found], rows: Any, mapped: Tensor | None, expected: int | None, labels: Tensor, ignore_index: int
) -> Documents:
    """The documents of a batch with these `labels`, (batch, tokens).

    `bounds`: what each of the given bounds found. `rows`: those of the documents, (documents,); None if the watched
    batch's are meant, of which there are `expected`, None if that is not known. `mapped`: the row map, whose equal entries
    are one document, in place of rows. Raises `InvalidValue` if bounds and rows do not fit one another, or if a label that
    counts is of no document.
    """
    if mapped is not None:
        return _of_map(mapped, bounds, labels, ignore_index)
    if rows is not None:
        rows = checked_rows(rows, None)
        expected = len(rows)
    if not bounds:
        if rows is not None and expected != len(labels):
            raise InvalidValue(
                f"{expected} rows for {len(labels)} rows of the batch: without bounds each is a document. Where several documents "
                "are packed into one, say so by position_ids=, seq_idx=, cu_seqlens= or a row map, rows (batch, tokens)."
            )
        return Documents(rows, None, len(labels))
    count = int(bounds[0].kept) if expected is None else expected
    index, misfit = _fitted(bounds[0], count, labels, ignore_index)
    for other in bounds[1:]:
        further, also = _fitted(other, count, labels, ignore_index)
        differ = ((index != further) & (labels != ignore_index)).any()
        if misfit is not None and also is not None:
            misfit = misfit | also | differ
        elif differ:
            raise InvalidValue(
                f"{bounds[0].name} and {other.name} name different documents for the same tokens. Give one of them alone: the one "
                "that the model's attention goes by."
            )
    return Documents(rows, index, count, misfit)


def _fitted(one: Found, count: int, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """-> (index, misfit), as in `Documents`: the bounds' documents without as many at the end as are padding."""
    in_line = len(labels) == 1 or one.name == "cu_seqlens"  # else padding may lie at the end of each row of the batch
    whole = one.every == count
    if in_line:
        fits = (one.kept <= count) & (count <= one.every)
        index = one.index
    else:
        fits = whole | (one.kept == count)
        index = torch.where(whole, one.index, _without_padding(one.index, labels != ignore_index))
    index = torch.where(index < count, index, -1)  # what does not fit is refused later where looking would wait
    outside = ((index < 0) & (labels != ignore_index)).any()
    if not on_host(labels):
        return index, ~fits | outside | (one.wrong if one.wrong is not None else False)
    if not fits:
        raise InvalidValue(_unfit(one, count))
    if outside:
        raise InvalidValue(_of_none(one.name))
    return index, None


def _without_padding(index: Tensor, counted: Tensor) -> Tensor:
    """`index` numbered anew without the documents at the end of each row of the batch that have no `counted` label."""
    last = torch.where(counted, index, -1).amax(1, keepdim=True)  # the last document of each row that has one
    padding = (index > last) | (index < 0)
    first = ~padding
    first[:, 1:] &= index[:, 1:] != index[:, :-1]
    return torch.where(padding, -1, (first.flatten().cumsum(0) - 1).view(index.shape))


def _of_map(mapped: Tensor, bounds: list[Found], labels: Tensor, ignore_index: int) -> Documents:
    """The documents of a row map: one for each row that occurs, ascending. Its rows come to the host: give it there."""
    rows = torch.unique(mapped)
    rows = rows[rows >= 0]
    index = torch.where(mapped < 0, -1, torch.searchsorted(rows, mapped.contiguous())).to(labels.device)
    counted = labels != ignore_index
    outside = ((index < 0) & counted).any()
    changes = [
        ((one.index[:, 1:] == one.index[:, :-1]) & (index[:, 1:] != index[:, :-1]) & counted[:, 1:]).any()
        for one in bounds
    ]
    if not on_host(index):
        return Documents(rows.cpu(), index, len(rows), torch.stack([outside, *changes]).any())
    if outside:
        raise InvalidValue(_of_none("the row map"))
    for one, change in zip(bounds, changes, strict=True):
        if change:
            raise InvalidValue(
                f"the row map changes its row within a document of {one.name}: they are not of the same pack. Make both from the "
                "same documents, or give the row map alone."
            )
    return Documents(rows.cpu(), index, len(rows))


def _unfit(one: Found, count: int) -> str:
    padding = int(one.every - one.kept)
    found = f"{int(one.every)} documents" + (
        f", {padding} of which have no label that counts, as padding," if padding else ""
    )
    return (
        f"{one.name} make {found} and {count} rows came: one a document, in the order of the pack, is needed. A row of the batch "
        "that begins within a document needs an entry for it, too. Give the rows as a row map, rows (batch, tokens), "
        "where a pack is made otherwise."
    )


def _of_none(name: str) -> str:
    return (
        f"a label that counts is of no document, as {name} tell. Give padding the label that is ignored (ignore_index), or its "
        "tokens to a document."
    )
