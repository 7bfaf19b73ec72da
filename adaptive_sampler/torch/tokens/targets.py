"""Checks the logits and labels of a call, and finds the label that each position predicts."""

from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.arrays import on_host
from adaptive_sampler.errors import InvalidValue


def checked_labels(labels: Any) -> Tensor:
    """The labels as (batch, tokens) int64. Raises `InvalidValue` for another shape, and for what are no classes."""
    given = labels if isinstance(labels, Tensor) else torch.as_tensor(labels)
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise InvalidValue(
            f"labels have dtype {given.dtype}: a token's label is its number in the vocabulary, (batch, tokens) integers. "
            "Distributions over the vocabulary are for nn.CrossEntropyLoss; hook.record_tokens takes the losses that you compute."
        )
    if given.ndim != 2 or 0 in given.shape:
        raise InvalidValue(
            f"labels have shape {tuple(given.shape)}: (batch, tokens), both at least 1, is needed. Give one sequence as a batch of "
            "one: labels[None]."
        )
    whole: Tensor = given.to(torch.int64)
    return whole


def check_logits(logits: Any, labels: Tensor, ignore_index: int, *, shift: bool) -> None:
    """Raise `InvalidValue` unless `logits` are (batch, tokens, vocabulary) for `labels`, (batch, tokens), of that vocabulary."""
    if logits is None:
        raise InvalidValue(
            "logits=None: the model's loss hides them, as fused losses do (use_liger_kernel=True, a chunked or cut cross "
            "entropy). Switch that off, or give what the loss is made of: hook.linear(hidden, weight, labels), or per-token values "
            "measured elsewhere: hook.record_tokens(rows, values, labels)."
        )
    shape = tuple(getattr(logits, "shape", ()))
    if not isinstance(logits, Tensor) or len(shape) != 3 or not logits.is_floating_point():
        raise InvalidValue(
            f"logits are {type(logits).__name__} of shape {shape}: a tensor of numbers (batch, tokens, vocabulary) is needed. Give "
            "one sequence as a batch of one: logits[None]."
        )
    _check_length(shape, tuple(labels.shape), "logits", shift=shift)
    check_vocabulary(labels, shape[2], ignore_index)


def _check_length(shape: tuple[int, ...], labels: tuple[int, ...], what: str, *, shift: bool) -> None:
    if shape[:2] == labels:
        return
    message = f"{what} {shape} and labels {labels} disagree: (batch, tokens, …) and (batch, tokens) are needed."
    if shape[0] == labels[0] and abs(shape[1] - labels[1]) == 1:
        cut = "logits" if shape[1] < labels[1] else "labels"
        message += f" The {cut} are one shorter: they were shifted already" + (
            ", and shift=True would shift the labels again. Make the hook with shift=False and give it logits and labels that "
            "stand side by side, such as logits[:, :-1] and labels[:, 1:]; or give both unshifted."
            if shift
            else ". Give both side by side, such as logits[:, :-1] and labels[:, 1:]."
        )
    raise InvalidValue(message)


def check_hidden(hidden: Any, weight: Any, labels: Tensor, ignore_index: int, *, shift: bool) -> None:
    """Raise `InvalidValue` unless `hidden` (batch, tokens, width) and `weight` (vocabulary, width) fit `labels`."""
    shape, table = tuple(getattr(hidden, "shape", ())), tuple(getattr(weight, "shape", ()))
    if len(shape) != 3 or len(table) != 2 or shape[2] != table[1]:
        raise InvalidValue(
            f"hidden {shape} and weight {table}: (batch, tokens, width) and (vocabulary, width) are needed, the last hidden states "
            "and the head's weight: hook.linear(outputs.hidden_states[-1], model.lm_head.weight, labels)."
        )
    _check_length(shape, tuple(labels.shape), "hidden", shift=shift)
    check_vocabulary(labels, table[0], ignore_index)


def check_vocabulary(labels: Tensor, vocabulary: int, ignore_index: int) -> None:
    """Raise `InvalidValue` for a label outside the vocabulary; on the host alone, where looking is free."""
    if not on_host(labels):
        return
    wrong = ((labels < 0) | (labels >= vocabulary)) & (labels != ignore_index)
    if wrong.any():
        raise InvalidValue(
            f"label {int(labels[wrong][0])} is outside the vocabulary 0 … {vocabulary - 1} and is not ignore_index={ignore_index}. "
            "Where each rank holds a part of the vocabulary (a vocabulary-parallel loss), gather the logits first, or measure "
            "the tokens' losses there and call hook.record_tokens; else mend the labels, or the size of the model's head."
        )


def targets(labels: Tensor, same: Tensor | None, ignore_index: int, *, shift: bool) -> Tensor:
    """The label that each position predicts, (batch, tokens) int64, `ignore_index` where it predicts none that counts.

    With `shift` it is the next label, as transformers' ForCausalLMLoss shifts, but never that of another document: `same`
    (batch, tokens − 1) bool says whether a position and the next are of one document, None: they always are.
    """
    if not shift:
        return labels
    following = torch.full_like(labels, ignore_index)
    following[:, :-1] = labels[:, 1:] if same is None else torch.where(same, labels[:, 1:], ignore_index)
    return following
