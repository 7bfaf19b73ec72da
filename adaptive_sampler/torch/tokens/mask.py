"""Keeps padding out of what is recorded, as an attention mask tells it from tokens."""

from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.tokens.bounds import Found, counts_of


def checked_mask(mask: Any, labels: Tensor) -> Tensor:
    """An attention mask as (batch, tokens) bool, where `labels` are. Raises `InvalidValue` for another shape or dtype."""
    given = mask if isinstance(mask, Tensor) else torch.as_tensor(mask)
    if given.shape != labels.shape:
        raise InvalidValue(
            f"attention_mask has shape {tuple(given.shape)}, and labels {tuple(labels.shape)}: both are (batch, tokens), 1 for a token "
            "and 0 for padding. Give the mask that the tokenizer made of the labels' tokens, or none where nothing is padded."
        )
    if given.is_floating_point() or given.is_complex():
        raise InvalidValue(
            f"attention_mask has dtype {given.dtype}: it is 1 for a token and 0 for padding, and not what is added to attention. "
            "Give the tokenizer's, or cast it to int64 if it is that one."
        )
    return given.to(labels.device, non_blocking=labels.device.type != "cpu") != 0


def recorded(target: Tensor, mask: Tensor | None, ignore_index: int, *, shift: bool) -> Tensor:
    """(batch, tokens) bool: which positions have a prediction that is recorded: of a label that counts, and not of padding.

    `target` (batch, tokens) int64: what each position predicts; `mask` (batch, tokens) bool, None if nothing is padded. With
    `shift` neither the position nor the next, whose token it predicts, may be padding.
    """
    counted = target != ignore_index
    if mask is None:
        return counted
    counted = counted & mask
    if shift:
        counted[:, :-1] &= mask[:, 1:]
    return counted


def without_padding(one: Found, mask: Tensor, labels: Tensor, ignore_index: int) -> Found:
    """`one` with those documents alone that have a position in the `mask`, (batch, tokens) bool, numbered anew.

    Lengths name their documents themselves, and keep them. `labels` (batch, tokens) are ignored outside of the mask.
    """
    if one.name == "cu_seqlens":
        return one
    flat = one.index.flatten()
    there = torch.zeros(flat.numel() + 1, dtype=torch.int64, device=flat.device)
    there.scatter_add_(0, torch.where(flat < 0, flat.numel(), flat), mask.flatten().to(torch.int64))
    there = (there > 0).to(torch.int64)
    at = flat.clamp(min=0)
    kept = (flat >= 0) & (there[at] > 0)
    index = torch.where(kept, there.cumsum(0)[at] - 1, -1)
    reached = torch.where(mask.flatten(), index, -1).cummax(0).values
    first = reached.diff(prepend=reached.new_full((1,), -1)) > 0  # the first position of each that is no padding
    return Found(one.name, index.view(labels.shape), *counts_of(first.view(labels.shape), labels, ignore_index), one.wrong)
