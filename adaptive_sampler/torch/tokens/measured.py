"""From logits or losses to the values of tokens, block by block, and from those to the means of documents."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adaptive_sampler.arrays import as_array, on_host, to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.scoring.measures import cross_entropy
from adaptive_sampler.scoring.one_pass import leave_out
from adaptive_sampler.scoring.reading import is_built_in
from adaptive_sampler.scoring.sharing import shared
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.tokens.documents import Documents
from adaptive_sampler.torch.tokens.scores import given_values, of_tokens

# Logits that are measured at a time, on the host and on a device: what a measure makes of them lies in memory beside them.
# On a device a small block takes as long as a large one.
_BLOCK, _BLOCK_OF_DEVICE = 1 << 22, 1 << 24


def of_logits(store: ScoreStore, logits: Tensor, target: Tensor, ignore_index: int) -> dict[str, Tensor]:
    """The value of each position for each score, (batch · tokens,) float32; anything where the target is ignored.

    `logits` (batch, tokens, vocabulary), `target` (batch, tokens) int64 on their device. Scores of this package are measured
    in one pass on the host; else the logits are read block by block, and a block is copied only if it has half precision or
    does not lie in one piece.
    """
    scores = of_tokens(store)
    measured = {score.name: torch.zeros(target.numel(), device=target.device) for score in scores}
    if not measured:
        return measured
    logits, labels = logits.detach(), target.flatten()
    flat = logits.view(-1, logits.shape[2]) if logits.is_contiguous() else None
    if flat is not None and on_host(flat) and all(map(is_built_in, scores)):
        return _in_one_pass(store, flat, torch.where(labels == ignore_index, -1, labels))
    own_loss = store.session.takes("loss", instead_of_logits=True)
    for at in _blocks(labels, ignore_index, logits.shape[2]):
        label = labels[at]
        given = {"logits": flat[at] if flat is not None else _picked(logits, at)}
        given["labels"] = torch.where(label == ignore_index, 0, label)
        with torch.no_grad(), shared():
            if own_loss:
                given["loss"] = as_tensor(cross_entropy(given["logits"], given["labels"]))
            _put(measured, store.session.measure(**given), at, label.shape)
    return measured


def _in_one_pass(store: ScoreStore, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The same of logits (tokens, vocabulary) that lie on the host; `labels` (tokens,), below 0 for what does not count."""
    with shared():
        leave_out(logits, labels)
        return {name: as_tensor(value) for name, value in store.session.measure(logits=logits, labels=labels).items()}


def of_losses(store: ScoreStore, losses: Tensor) -> dict[str, Any]:
    """The same of the losses of positions, (batch · tokens,), for scores of the loss alone."""
    with torch.no_grad():
        return store.session.measure(loss=losses.detach().float()) if of_tokens(store) else {}


def of_values(scores: list[ScoreLike], values: Mapping[str, Any], target: Tensor, *, shift: bool) -> dict[str, Any]:
    """The same of `values` that were measured elsewhere, (batch, tokens) or, with `shift`, (batch, tokens − 1)."""
    found = {}
    for score, (name, squared) in given_values(scores, values).items():
        value = as_tensor(values[name]).detach().to(torch.float32)
        shapes = [tuple(target.shape), (len(target), target.shape[1] - 1)][: 1 + shift]
        if tuple(value.shape) not in shapes:
            raise InvalidValue(
                f"values {name!r} have shape {tuple(value.shape)}: one a label is needed, {' or '.join(map(str, shapes))}."
            )
        value = F.pad(value, (0, target.shape[1] - value.shape[1])).flatten()
        found[score] = value * value if squared else value
    return found


def _blocks(labels: Tensor, ignore_index: int, words: int) -> Iterator[Any]:
    """The positions in blocks, on the host those that count alone: a slice where nearly all of a stretch count.

    What is taken of a tensor by a slice is not copied.
    """
    if not on_host(labels):
        size = max(_BLOCK_OF_DEVICE // words, 1)
        yield from (slice(start, min(start + size, len(labels))) for start in range(0, len(labels), size))
        return
    positions, size = (labels != ignore_index).nonzero()[:, 0], max(_BLOCK // words, 1)
    for at in (positions[start : start + size] for start in range(0, len(positions), size)):
        start, stop = int(at[0]), int(at[-1]) + 1
        yield slice(start, stop) if stop - start <= 1.1 * len(at) else at


def _picked(logits: Tensor, at: Any) -> Tensor:
    """The logits of the positions `at`, (tokens, vocabulary), of logits that do not lie in one piece."""
    positions = torch.arange(at.start, at.stop, device=logits.device) if isinstance(at, slice) else at
    return logits[positions // logits.shape[1], positions % logits.shape[1]]


def _put(measured: dict[str, Tensor], values: dict[str, Any], at: Any, shape: torch.Size) -> None:
    """Put the values of one block of positions `at`, (tokens,) `shape`, in their places."""
    for name, value in values.items():
        if value.shape != shape:
            raise InvalidValue(
                f"score {name!r} measures values of shape {tuple(value.shape)} from {shape[0]} tokens: one a token is needed."
            )
        measured[name][at] = as_tensor(value).to(torch.float32)


def as_tensor(value: Any) -> Tensor:
    """A value of any library as a tensor."""
    return value if isinstance(value, Tensor) else torch.as_tensor(to_host(as_array(value)))


def counts_and_means(values: dict[str, Any], counted: Tensor, documents: Documents) -> tuple[Tensor, dict[str, Tensor]]:
    """-> (the number of counted tokens of each document, (documents,) float32, its mean of each value, (documents,) float32).

    `values`: name -> (batch · tokens,); `counted` (batch, tokens) bool. Sums are in float64. A document without a counted
    token has means of 0.
    """
    index = documents.index
    if index is None:
        index = torch.arange(len(counted))[:, None].expand(counted.shape)
    at = torch.where(counted, index.to(counted.device), -1).flatten()
    for value in values.values():
        at = at.to(value.device, non_blocking=str(value.device) != "cpu")  # the labels may lie elsewhere
    if on_host(at):
        return _on_host(values, at.numpy(), documents.count)
    at = torch.where(at < 0, documents.count, at)  # a further document, of what is of none
    counts = _summed(torch.ones_like(at, dtype=torch.float64), at, documents.count)
    means = {
        name: _summed(torch.where(at < documents.count, value, 0), at, documents.count) / counts.clamp(min=1)
        for name, value in values.items()
    }
    return counts.float(), {name: mean.float() for name, mean in means.items()}


def _summed(values: Tensor, at: Tensor, count: int) -> Tensor:
    return values.new_zeros(count + 1, dtype=torch.float64).index_add_(0, at, values.double())[:count]


def _on_host(values: dict[str, Any], at: np.ndarray, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    counted = at >= 0
    at = at[counted]
    counts = np.bincount(at, minlength=count)
    means = {}
    for name, value in values.items():
        sums = np.bincount(at, weights=to_host(value)[counted], minlength=count)
        with np.errstate(all="ignore"):  # an infinite token
            means[name] = torch.from_numpy((sums / np.maximum(counts, 1)).astype(np.float32))
    return torch.from_numpy(counts.astype(np.float32)), means
