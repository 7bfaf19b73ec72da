"""A criterion taken apart: the losses of single samples, and their weighted sum over the criterion's own denominator."""

import copy
from typing import Any

import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue


def unreduced(criterion: nn.Module, input: torch.Tensor, target: Any) -> torch.Tensor:
    """The criterion's losses with `reduction="none"`. The criterion itself is not touched."""
    twin: Any = copy.copy(criterion)  # shares parameters and buffers
    twin.reduction = "none"
    losses: torch.Tensor = twin(input, target)
    if not losses.ndim or len(losses) != len(input):
        raise InvalidValue(
            f"{type(criterion).__name__} with reduction='none' gives losses {tuple(losses.shape)} for {len(input)} samples: one "
            "a sample is needed. Make its reduction='none' do that, or record the losses yourself: hook.record(rows, loss=...)."
        )
    return losses


def is_cross_entropy(criterion: nn.Module, input: torch.Tensor, target: Any) -> bool:
    """Whether the criterion's losses are −log softmax(input)[target], as `measures.cross_entropy` has them."""
    plain = type(criterion) is nn.CrossEntropyLoss and criterion.weight is None and criterion.label_smoothing == 0
    return plain and input.ndim == 2 and isinstance(target, torch.Tensor) and target.ndim == 1


def per_sample(
    criterion: nn.Module,
    input: torch.Tensor,
    target: Any,
    value: torch.Tensor,
    losses: torch.Tensor | None,
) -> torch.Tensor | None:
    """(batch,) losses, or None where the criterion cannot be taken apart. `value`: what it returned; `losses`: if known."""
    if losses is None:
        if value.ndim and len(value) == len(input):
            losses = value
        elif hasattr(criterion, "reduction"):
            losses = unreduced(criterion, input, target)
        else:
            return None
    return losses[:, 0] if losses.ndim == 2 and losses.shape[1] == 1 else losses


def weighted(
    criterion: nn.Module,
    input: torch.Tensor,
    target: Any,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """-> Σ weight·ℓ over the criterion's own denominator, and the losses ℓ. `weights` (batch,), on the host."""
    losses = unreduced(criterion, input, target)
    shape = (-1, *[1] * (losses.ndim - 1))
    scaled = losses * weights.to(losses.device, losses.dtype, non_blocking=True).view(shape)
    if criterion.reduction == "none":
        return scaled, losses
    return scaled.sum() / _denominator(criterion, losses, target), losses


def _denominator(criterion: nn.Module, losses: torch.Tensor, target: Any) -> Any:
    if criterion.reduction == "sum":
        return 1
    if criterion.reduction == "batchmean":
        return len(losses)
    if criterion.reduction != "mean":
        raise InvalidValue(
            f"reduction={criterion.reduction!r} is not known: one of 'mean', 'sum', 'batchmean', 'none'."
        )
    if not isinstance(criterion, (nn.CrossEntropyLoss, nn.NLLLoss)) or target.is_floating_point():
        return losses.numel()
    counted = target != criterion.ignore_index
    if criterion.weight is None:
        return counted.sum()
    return torch.where(counted, criterion.weight[torch.where(counted, target, 0)], 0).sum()
