"""Checks the logits and labels of a call, and finds the label that each position predicts."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.arrays import on_host
from adaptive_sampler.errors import InvalidValue


def checked_labels(labels: Any) -> Tensor:
    """The labels as (batch, tokens) int64. Raises `InvalidValue` for another shape, and for what are no classes."""
    try:
        given = labels if isinstance(labels, Tensor) else torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValue(
            f"labels are {'None' if labels is None else type(labels).__name__}: (batch, tokens) integers are needed, in rows of "
            "one length. Those of a model that predicts the next token are its input_ids, with -100 for padding."
        ) from error
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
    if not isinstance(logits, Tensor):
        raise InvalidValue(_no_tensor(logits))
    shape = tuple(logits.shape)
    if not logits.is_floating_point():
        raise InvalidValue(
            f"logits have dtype {logits.dtype}: the model's scores of every word are needed, outputs.logits, (batch, tokens, "
            "vocabulary) floating-point numbers, and not the words that it chose. Cast scores that are whole numbers: "
            "logits.float()."
        )
    if len(shape) != 3:
        raise InvalidValue(
            f"logits are {type(logits).__name__} of shape {shape}: a tensor of numbers (batch, tokens, vocabulary) is needed. Give "
            "one sequence as a batch of one: logits[None]."
        )
    _check_length(shape, tuple(labels.shape), "logits", shift=shift)
    check_vocabulary(labels, shape[2], ignore_index)


def _no_tensor(logits: Any) -> str:
    """The message for what is no tensor of logits; it says how to get at them."""
    if hasattr(logits, "logits"):
        remedy = "They are in it: hook(outputs.logits, labels)."
    elif isinstance(logits, Mapping):
        remedy = "They are in it: hook(outputs['logits'], labels)."
    elif isinstance(logits, tuple | list):
        remedy = (
            "They are in it: hook(outputs[0], labels), or outputs[1] where the model computed a loss, too; outputs.logits with "
            "return_dict=True."
        )
    else:
        remedy = "Make one of it: torch.as_tensor(logits). Gradients do not reach beyond it."
    return f"logits are {type(logits).__name__}, and a tensor (batch, tokens, vocabulary) is needed. {remedy}"


def _check_length(shape: tuple[int, ...], labels: tuple[int, ...], what: str, *, shift: bool) -> None:
    if shape[:2] == labels:
        return
    message = f"{what} {shape} and labels {labels} disagree: (batch, tokens, …) and (batch, tokens) are needed."
    if shape[:2] == labels[::-1]:
        message += f" The first two axes are swapped: {what}.transpose(0, 1)."
    elif (shape[0], shape[2]) == labels:
        message += f" The last two axes are swapped: {what}.transpose(1, 2)."
    elif shape[0] == labels[0] and abs(shape[1] - labels[1]) == 1:
        cut = "logits" if shape[1] < labels[1] else "labels"
        message += f" The {cut} are one shorter: they were shifted already" + (
            ", and shift=True would shift the labels again. Make the hook with shift=False and give it logits and labels that "
            "stand side by side, such as logits[:, :-1] and labels[:, 1:]; or give both unshifted."
            if shift
            else ". Give both side by side, such as logits[:, :-1] and labels[:, 1:]."
        )
    raise InvalidValue(message)


def check_hidden(hidden: Any, weight: Any, bias: Any, labels: Tensor, ignore_index: int, *, shift: bool) -> None:
    """Raise `InvalidValue` unless `hidden` (batch, tokens, width) and `weight` (vocabulary, width) fit `labels`.

    `bias` (vocabulary,), or None.
    """
    shape, table = tuple(getattr(hidden, "shape", ())), tuple(getattr(weight, "shape", ()))
    if len(shape) != 3 or len(table) != 2 or shape[2] != table[1]:
        raise InvalidValue(
            f"hidden {shape} and weight {table}: (batch, tokens, width) and (vocabulary, width) are needed, the last hidden states "
            "and the head's weight: hook.linear(outputs.hidden_states[-1], model.lm_head.weight, labels)."
        )
    if bias is not None and not (isinstance(bias, Tensor) and bias.is_floating_point() and bias.shape == table[:1]):
        raise InvalidValue(
            f"bias is {type(bias).__name__} of shape {tuple(getattr(bias, 'shape', ()))}: a tensor of one number a word is needed, "
            f"({table[0]},). It is the head's: bias=model.lm_head.bias, None where it has none."
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
