"""Which document each position of a batch belongs to, and which row of the store each document has."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.rows import checked_rows
from adaptive_sampler.torch.tokens.bounds import Found


@dataclass(slots=True)
class Documents:
    """The documents of a batch.

    `rows` (documents,) int64, or None: those of the watched batch. `index` (batch, tokens) int64: the
    document of each position, −1 for none; None: each row of the batch is a document. `count`: how many documents.
    `misfit` () bool: whether the bounds do not fit the rows, where that was not checked because it would wait for the
    device; None where it was.
    """

    rows: Any
    index: Tensor | None
    count: int
    misfit: Tensor | None = None


def same_document(bounds: list[Found], rows: Any, labels: Tensor) -> Tensor | None:
    """(batch, tokens − 1) bool: whether a position and the next are of one document; None: all of a row of the batch are."""
    same = None
    for index in (*(one.index for one in bounds), *(_row_map(rows, labels),)):
        if index is not None:
            both = index[:, 1:] == index[:, :-1]
            same = both if same is None else same & both
    return same


def documents_of(bounds: list[Found], rows: Any, count: int | None, labels: Tensor, ignore_index: int) -> Documents:
    """The documents of a batch with these `labels`, (batch, tokens).

    `bounds`: what each of the given bounds found. `rows`: (documents,), or a row map (batch, tokens), whose equal
    entries are one document and −1 none; None for those of the watched batch, of which there are `count`, None if that is
    not known. Raises `InvalidValue` if the bounds and the rows do not fit, or if a counted label is of no document.
    """
    if (mapped := _row_map(rows, labels)) is not None:
        return _of_map(mapped, bounds, labels, ignore_index)
    if rows is not None:
        rows = checked_rows(rows, None)
        count = len(rows)
    if not bounds:
        if count not in (None, len(labels)):
            raise InvalidValue(
                f"{count} rows for {len(labels)} rows of the batch: without bounds each is a document. Where several documents "
                "are packed into one, say so by position_ids=, seq_idx=, cu_seqlens= or a row map, rows (batch, tokens)."
            )
        return Documents(rows, None, len(labels))
    fitted = [_fit(one, count, labels, ignore_index) for one in bounds]
    _agree(bounds, fitted, labels, ignore_index)
    return Documents(rows, *fitted[0])


def _fit(one: Found, count: int | None, labels: Tensor, ignore_index: int) -> tuple[Tensor, int, Tensor | None]:
    """-> (index, count, misfit), as in `Documents`, of bounds and a number of rows."""
    if count is None:
        count = int(one.kept)
    whole = one.every == count
    without = (
        (one.kept <= count) & (count <= one.every)
        if len(labels) == 1 or one.name == "cu_seqlens"
        else one.kept == count
    )
    if len(labels) == 1 or one.name == "cu_seqlens":
        index = torch.where(one.index < count, one.index, -1)
    else:
        index = torch.where(whole, one.index, _kept_index(one.index, labels, ignore_index))
    outside = ((index < 0) & (labels != ignore_index)).any()
    misfit = ~(whole | without) | outside
    if labels.device.type != "cpu":
        return index, count, misfit
    if not (whole | without):
        raise InvalidValue(_unfit(one, count))
    if outside:
        raise InvalidValue(_none(one.name))
    return index, count, None


def _kept_index(index: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """`index` without the documents at the end of a row of the batch of which every label is ignored, numbered anew."""
    counted = labels != ignore_index
    last = torch.where(counted, index, -1).amax(1, keepdim=True)  # the last document of each row with a counted label
    padding = index > last
    first = torch.ones_like(padding)
    first[:, 1:] = index[:, 1:] != index[:, :-1]
    first &= ~padding & (index >= 0)
    return torch.where(padding | (index < 0), -1, (first.flatten().cumsum(0) - 1).view(index.shape))


def _agree(bounds: list[Found], fitted: list[tuple[Tensor, int, Tensor | None]], labels: Tensor, ignored: int) -> None:
    """Raise `InvalidValue` if several bounds put a counted label into different documents; looked at on the host alone."""
    for one, (index, _, misfit) in zip(bounds[1:], fitted[1:], strict=True):
        if misfit is None and ((index != fitted[0][0]) & (labels != ignored)).any():
            raise InvalidValue(
                f"{bounds[0].name} and {one.name} name different documents for the same tokens. Give one of them alone: "
                "the one that the model's attention goes by."
            )


def _row_map(rows: Any, labels: Tensor) -> Tensor | None:
    """`rows` as a row map, (batch, tokens) int64 on the labels' device; None if they are rows of documents."""
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
    return given.to(labels.device, torch.int64)


def _of_map(mapped: Tensor, bounds: list[Found], labels: Tensor, ignore_index: int) -> Documents:
    """The documents of a row map: one for each row that occurs, in ascending order. Its rows are brought to the host."""
    rows = torch.unique(mapped)
    rows = rows[rows >= 0]
    index = torch.where(mapped < 0, -1, torch.searchsorted(rows, mapped.contiguous()))
    if labels.device.type == "cpu":
        if ((index < 0) & (labels != ignore_index)).any():
            raise InvalidValue(_none("the row map"))
        for one in bounds:
            within = (one.index[:, 1:] == one.index[:, :-1]) & (one.index[:, 1:] >= 0)
            if (within & (mapped[:, 1:] != mapped[:, :-1]) & (labels[:, 1:] != ignore_index)).any():
                raise InvalidValue(
                    f"the row map changes its row within a document of {one.name}: it does not belong to these bounds. Make both "
                    "from the same pack, or give the row map alone."
                )
    return Documents(rows.cpu(), index, len(rows))


def _unfit(one: Found, count: int) -> str:
    padding = int(one.every - one.kept)
    found = f"{int(one.every)} documents" + (
        f", the last {padding} of which have no label that counts" if padding else ""
    )
    return (
        f"{one.name} make {found}, and {count} rows came: one a document, in the order of the pack, is needed. A row of the batch "
        "that begins within a document needs an entry for it, too. Give the rows as a row map, rows (batch, tokens), "
        "where a pack is made otherwise."
    )


def _none(name: str) -> str:
    return (
        f"a label that counts is of no document, as {name} say. Give padding the label that is ignored (ignore_index), or its "
        "tokens to a document."
    )
