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
    value: torch.Tensor | None,
    losses: torch.Tensor | None,
) -> torch.Tensor:
    """(batch, …) losses, (batch,) of (batch, 1). `value`: what the criterion returned, `losses`: those of the samples, if known.

    Raises `InvalidValue` where the criterion cannot be taken apart.
    """
    apart = hasattr(criterion, "reduction")
    if losses is None:
        if value is None and not apart:
            value = criterion(input, target)
        if value is not None and value.ndim and len(value) == len(input):
            losses = value
        elif apart:
            losses = unreduced(criterion, input, target)
        else:
            raise InvalidValue(
                f"{type(criterion).__name__} returns one loss for {len(input)} samples and has no `reduction` to take it apart "
                "by, and a score of the store takes the `loss` of each. Give it a `reduction` that may be 'none', have it return "
                "the samples' losses, or compute them as you do and call hook.record(rows, loss=...)."
            )
    return losses[:, 0] if losses.ndim == 2 and losses.shape[1] == 1 else losses


def no_single_loss(criterion: nn.Module, losses: torch.Tensor) -> InvalidValue:
    """The error of a criterion that has several losses a sample, with the lines that make them one."""
    total = getattr(criterion, "reduction", "mean") in ("sum", "batchmean")
    whole = "sum" if getattr(criterion, "reduction", "mean") == "sum" else "mean"
    return InvalidValue(
        f"loss has shape {tuple(losses.shape)}: one loss a sample, ({len(losses)},), is what a score takes, and "
        f"{type(criterion).__name__} has several. Make them one yourself, beside the hook: criterion with reduction='none'; "
        f"loss = criterion(input, target).flatten(1).{'sum' if total else 'mean'}(1); hook.record(rows, loss=loss.detach()); "
        f"loss.{whole}().backward(). Under watch rows = hook.claim(len(input)). Padded tokens: measures.token_mean(loss, mask)."
    )


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
