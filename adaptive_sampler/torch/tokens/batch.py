"""One batch of a call: its labels, what each position predicts, and its documents with their rows and weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.rows import checked_rows
from adaptive_sampler.torch.hook.pending import Fresh
from adaptive_sampler.torch.hook.recording import Inside
from adaptive_sampler.torch.tokens.bounds import Found, found
from adaptive_sampler.torch.tokens.documents import Documents, documents_of, row_map, same_document
from adaptive_sampler.torch.tokens.mask import checked_mask, recorded, without_padding
from adaptive_sampler.torch.tokens.targets import checked_labels, targets


@dataclass(slots=True)
class Batch:
    """The labels of a call, and where its documents begin.

    `labels`, `target` (batch, tokens) int64: the labels, those of padding ignored, and what each position predicts in the
    loss, padding included. `counted` (batch, tokens) bool: which predictions are recorded. `rows`: as they were given;
    `mapped`: if they are a row map. `bounds`: what each of the given bounds found.
    """

    labels: Tensor
    target: Tensor
    counted: Tensor
    rows: Any
    mapped: Tensor | None
    bounds: list[Found]
    ignore_index: int

    def documents(self, expected: int | None = None) -> Documents:
        """The documents; `expected`: how many rows the watched batch has, None if rows were given or that is not known."""
        return documents_of(self.bounds, self.rows, self.mapped, expected, self.labels, self.ignore_index)


def batch_of(labels: Any, rows: Any, bounds: dict[str, Any], ignore_index: int, *, shift: bool) -> Batch:
    """The `Batch` of a call with these arguments.

    `bounds`: by name, None where they were not given; and, among them, attention_mask.
    """
    given = {name: one for name, one in bounds.items() if one is not None}
    whole = checked_labels(labels)
    mask = checked_mask(given.pop("attention_mask"), whole) if "attention_mask" in given else None
    told = whole if mask is None else torch.where(mask, whole, ignore_index)
    marks = [found(name, one, told, ignore_index) for name, one in given.items()]
    mapped = row_map(rows, whole)
    target = targets(whole, same_document(marks, mapped, whole), ignore_index, shift=shift)
    if mask is not None:
        marks = [without_padding(one, mask, told, ignore_index) for one in marks]
    return Batch(told, target, recorded(target, mask, ignore_index, shift=shift), rows, mapped, marks, ignore_index)


@dataclass(slots=True)
class Taken:
    """The documents of a call, their `rows` (documents,) int64, which are `fresh`, and their plan weights.

    `weights` (documents,) float32, None where nothing weighs or each is 1. `pieces`: whether documents of the same row are
    pieces of one.
    """

    documents: Documents
    rows: Tensor
    fresh: Fresh
    weights: np.ndarray | None
    pieces: bool

    def weight_of_each(self, target: Tensor) -> Tensor | None:
        """The weight of each position, (batch · tokens,) float32 on the target's device; 0 for one of no document."""
        if self.weights is None:
            return None
        given = torch.from_numpy(self.weights).to(target.device, non_blocking=True)
        return self.documents.of_each_position(given, target.shape).flatten()


def taken(batch: Batch, inside: Inside, *, joins: bool) -> Taken | None:
    """The documents of a call of a hook, whose private state is `inside`; None if no document matters to the call.

    That is a call without rows that records nothing and is not weighed. Raises `InvalidValue` if it is in doubt which
    documents these are, and `RowError` for a row outside the sampler's plan.
    """
    enabled, counts = torch.is_grad_enabled(), inside.again == 0
    if batch.rows is None and not (enabled and (counts or inside.sampler is not None)):
        return None
    documents = batch.documents(inside.pending.size)
    fresh: Fresh
    if enabled:
        rows, fresh = inside.pending.take(documents.rows, documents.count, count=counts)
    else:
        rows, fresh = checked_rows(documents.rows, documents.count), False
    weights = None if inside.sampler is None else inside.pending.weights(rows, inside.sampler, watched=enabled)
    if weights is not None and (weights == 1).all():
        weights = None
    return Taken(documents, rows, fresh, weights, pieces(batch, inside, joins=joins))


def checked_weights(weights: Any, count: int) -> np.ndarray | None:
    """The loss weights of `count` documents as (documents,) float32; None stays None. Raises `InvalidValue` for what are none."""
    if weights is None:
        return None
    try:
        given = np.asarray(to_host(weights))
    except (TypeError, ValueError):  # a list of lists of several lengths
        given = np.empty(0, object)
    if given.shape != (count,) or given.dtype.kind not in "iuf" or not (np.isfinite(given) & (given >= 0)).all():
        raise InvalidValue(
            f"weights have shape {given.shape} and dtype {given.dtype}: one finite number of at least 0 for each of the {count} "
            "documents is needed, by which its loss was multiplied. Pass sampler.loss_weights(rows), or none."
        )
    return given.astype(np.float32)


def pieces(batch: Batch, inside: Inside, *, joins: bool) -> bool:
    """Whether documents of the same row in a call are pieces of one document.

    In a pack they are, unless the plan visits rows several times: then they are visits. A row map makes one of both. Rows of
    the batch that are documents of their own are pieces if those of different calls are joined (`joins`). Raises
    `InvalidValue` if they are to be joined under such a plan.
    """
    if not batch.bounds and batch.mapped is None and not joins:
        return False
    repeats = inside.watched.repeats(inside.sampler)
    if repeats and joins:
        raise InvalidValue(
            "joins=True, and the plan visits rows several times (Upsample, Draw): a visit and a piece of a document look alike. "
            "Set hook.joins = False and pack without cutting documents, or take a policy that visits each row once."
        )
    return batch.mapped is not None or not repeats
