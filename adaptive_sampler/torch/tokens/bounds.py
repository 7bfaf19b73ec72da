"""Where the documents of a batch begin, as position ids, sequence indices or cumulative lengths say."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptive_sampler.arrays import on_host, to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.batches import tensor_of


@dataclass(slots=True)
class Found:
    """The documents that one kind of bounds makes of a batch, in order.

    `index` (batch, tokens) int64: the document of each position, −1 for none. `every`, `kept` () int64: how many documents
    there are, and how many without those at the end of a row of the batch whose labels, and all behind them, are ignored:
    padding looks like that. `wrong` () bool: whether the bounds are none, where that was not looked at because it would
    wait for the device; None where it was.
    """

    name: str
    index: Tensor
    every: Tensor
    kept: Tensor
    wrong: Tensor | None


def found(name: str, bounds: Any, labels: Tensor, ignore_index: int) -> Found:
    """The documents that `bounds` make of a batch with these `labels`, (batch, tokens).

    `name`: "position_ids" or "seq_idx", (batch, tokens) integers, or "cu_seqlens", (documents + 1,) integers. Raises
    `InvalidValue` for another shape or dtype, and, on the host, for bounds that are no bounds.
    """
    given = bounds if isinstance(bounds, Tensor) else tensor_of(to_host(bounds))
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise InvalidValue(f"{name} have dtype {given.dtype}: integers are needed. Cast them to int64.")
    given = given.to(labels.device, torch.int64, non_blocking=labels.device.type != "cpu")
    if name == "cu_seqlens":
        return _of_lengths(given, labels, ignore_index)
    if given.shape != labels.shape:
        raise InvalidValue(
            f"{name} have shape {tuple(given.shape)}, and labels {tuple(labels.shape)}: both are (batch, tokens). "
            f"Expand what is shared by the rows of the batch: {name}.expand(labels.shape)."
        )
    return (
        _of_positions(given, labels, ignore_index)
        if name == "position_ids"
        else _of_indices(given, labels, ignore_index)
    )


def _of_positions(given: Tensor, labels: Tensor, ignore_index: int) -> Found:
    """A document begins where a position id is not the one before plus one, and with each row of the batch."""
    first = torch.ones_like(given, dtype=torch.bool)
    first[:, 1:] = given[:, 1:] != given[:, :-1] + 1
    return Found("position_ids", _numbered(first), *counts_of(first, labels, ignore_index), None)


def _of_indices(given: Tensor, labels: Tensor, ignore_index: int) -> Found:
    """A document begins where the index changes, and with each row of the batch; a negative index is of none."""
    none = given < 0
    first = ~none
    first[:, 1:] &= given[:, 1:] != given[:, :-1]
    wrong: Tensor | None = ((given[:, 1:] < given[:, :-1]) & ~none[:, 1:]).any()
    if on_host(given):
        if wrong:
            raise InvalidValue(
                "seq_idx decrease within a row of the batch: they count its documents, 0, 0, 1, 1, 2, with -1 for padding. Give "
                "the rows of the documents as a row map, rows (batch, tokens), where they have no such order."
            )
        wrong = None
    return Found("seq_idx", torch.where(none, -1, _numbered(first)), *counts_of(first, labels, ignore_index), wrong)


def _of_lengths(given: Tensor, labels: Tensor, ignore_index: int) -> Found:
    """Documents of the flattened batch, from each of the cumulative lengths to the next."""
    positions = labels.numel()
    if given.ndim != 1 or len(given) < 2:
        raise InvalidValue(
            f"cu_seqlens have shape {tuple(given.shape)}: (documents + 1,) is needed, from 0 to {positions}."
        )
    wrong: Tensor | None = (given[0] != 0) | (given.diff() < 0).any() | (given[-1] > positions)
    if on_host(given):
        if wrong:
            raise InvalidValue(
                f"cu_seqlens go {given[0]}, {given[1]}, … {given[-1]}: they ascend from 0 to the {positions} positions of the "
                "batch, as torch.cumsum of the documents' lengths does behind a 0."
            )
        wrong = None
    index = torch.searchsorted(given[1:].contiguous(), torch.arange(positions, device=given.device), right=True)
    index = torch.where(index < len(given) - 1, index, -1).view(labels.shape)
    padding = _ignored_to_the_end(F.pad(labels.reshape(1, -1), (0, 1), value=ignore_index), ignore_index)[0]
    kept = (~padding[given[:-1].clamp(0, positions)]).sum()  # an empty document at the end begins behind all labels
    return Found("cu_seqlens", index, kept.new_full((), len(given) - 1), kept, wrong)


def _numbered(first: Tensor) -> Tensor:
    """(batch, tokens) int64: the number of each position's document, of those that begin where `first` is true."""
    return (first.flatten().cumsum(0) - 1).view(first.shape)


def counts_of(first: Tensor, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """`every` and `kept` of documents that begin where `first` is true."""
    return first.sum(), (first & ~_ignored_to_the_end(labels, ignore_index)).sum()


def _ignored_to_the_end(labels: Tensor, ignore_index: int) -> Tensor:
    """(batch, tokens) bool: whether this label and all behind it in its row of the batch are ignored."""
    ignored = (labels == ignore_index).to(torch.int8)
    return ignored.flip(1).cumprod(1).flip(1).to(torch.bool)
