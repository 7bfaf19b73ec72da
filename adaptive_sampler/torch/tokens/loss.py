"""The loss of a batch of tokens: Hugging Face's, or weighted by document, or from hidden states without the logits."""

from math import inf
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adaptive_sampler.arrays import on_host
from adaptive_sampler.errors import InvalidValue


def plain(logits: Tensor, target: Tensor, ignore_index: int, items: Any) -> Tensor:
    """The mean loss over the tokens that count, or their sum over `items`: bit for bit that of transformers' ForCausalLMLoss.

    `logits` (batch, tokens, vocabulary), of which the loss is computed in float32; `target` (batch, tokens) int64.
    """
    flat = logits.float().reshape(-1, logits.shape[-1])
    reduction = "mean" if items is None else "sum"
    value = F.cross_entropy(flat, target.reshape(-1), ignore_index=ignore_index, reduction=reduction)
    return value if items is None else value / _on(items, value)


def checked_items(items: Any) -> Any:
    """What a sum of losses is divided by, as a number or a () tensor; None stays None.

    Raises `InvalidValue` for anything but one positive number; a tensor on a device is not looked at.
    """
    if items is None:
        return None
    number = items
    if isinstance(items, Tensor) and items.numel() == 1 and items.dtype != torch.bool:
        items = items.detach().reshape(())
        if not on_host(items):
            return items
        number = items.item()
    elif isinstance(items, np.ndarray | np.generic) and items.size == 1:
        items = number = items.item()
    if isinstance(number, bool) or not isinstance(number, Real) or not 0 < float(number) < inf:
        raise InvalidValue(
            f"num_items_in_batch={items!r}: the number of labels that count in the whole step is needed, positive, such as "
            "(labels[:, 1:] != -100).sum(). Leave it out where the batch is the step, or where nothing counts in the step."
        )
    return items


def token_losses(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """The loss of each position, (batch · tokens,) float32, 0 where it predicts none that counts."""
    flat = logits.float().reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, target.reshape(-1), ignore_index=ignore_index, reduction="none")


def linear_losses(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int) -> Tensor:
    """The same of logits = hidden · weightᵀ + bias, which are never all in memory; of half precision rounded to that.

    `hidden` (batch, tokens, width), `weight` (vocabulary, width), `bias` (vocabulary,) or None. Raises `InvalidValue` if
    this torch cannot compute it.
    """
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if options is None:
        raise InvalidValue(
            f"hook.linear needs torch.nn.functional.linear_cross_entropy with options, and torch {torch.__version__} has none: "
            "pip install 'torch>=2.13', or compute the logits and call hook(logits, labels)."
        )
    losses: Tensor = F.linear_cross_entropy(  # torch >= 2.13
        hidden.reshape(-1, hidden.shape[-1]),
        weight,
        target.reshape(-1),
        linear_bias=bias,
        reduction="none",
        ignore_index=ignore_index,
        options=options(),
    )
    return losses.float()


def reduced(losses: Tensor, weights: Tensor | None, target: Tensor, ignore_index: int, items: Any) -> Tensor:
    """Σ weight·loss over the tokens, divided by the number of those that count, or by `items`.

    `losses` (batch · tokens,); `weights` (batch · tokens,) float32, None where each is 1; `target` (batch, tokens).
    """
    total = (losses if weights is None else losses * weights).sum()
    return total / ((target != ignore_index).sum() if items is None else _on(items, losses))


def _on(items: Any, like: Tensor) -> Any:
    return items.to(like.device) if isinstance(items, Tensor) else items
