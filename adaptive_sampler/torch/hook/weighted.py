"""The weighted loss: Σ weight·ℓ, divided by the denominator of the criterion's own mean."""

from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.call import Call
from adaptive_sampler.torch.hook.denominator import Denominator, refused
from adaptive_sampler.torch.hook.reduction import is_torchs, losses_of
from adaptive_sampler.torch.hook.side_effects import SideEffects

_REDUCED = ("mean", "sum", "batchmean")


def weighted(
    criterion: nn.Module, call: Call, weights: Tensor, denominator: Denominator
) -> tuple[Tensor, Tensor | None, SideEffects | None]:
    """Compute the weighted loss of a call -> (value, losses, watch).

    `value`: Σ weight·ℓ divided by the denominator of the criterion's own mean; with reduction="none", the weighted
    losses. `losses`: the unweighted losses ℓ, (batch, …); None if they were not computed. `watch`: if `losses` is None,
    the `SideEffects` that watched the criterion's call, else None.

    `weights` (batch,), on the host. `denominator`: the hook's, for criteria that are not torch's own. Raises
    `InvalidValue` if the losses of single samples, or the denominator, cannot be found.
    """
    _check_reduction(criterion)
    if is_torchs(criterion):
        losses = losses_of(criterion, call)
        scaled = losses * _beside(losses, weights)
        return (
            (scaled if criterion.reduction == "none" else _over(scaled, _known(criterion, call, losses))),
            losses,
            None,
        )
    if criterion.reduction == "none":
        losses = losses_of(criterion, call)
        return losses * _beside(losses, weights), losses, None
    watch = SideEffects(criterion, call.input, closely=denominator.looks.due())
    if call.length == 1:  # of one sample: its weight multiplies the value, whatever the mean divides by
        value = call.on(criterion)
        if not isinstance(value, Tensor):
            raise InvalidValue(refused(criterion, f"it returns a {type(value).__name__}"))
        return weights.to(value.device, value.dtype)[0] * value, None, watch
    losses = losses_of(criterion, call, watch.twin)
    if (moved := watch.seen() or watch.left_behind()) is not None:
        raise InvalidValue(refused(criterion, f"it {moved} when it is called, and would be called several times"))
    return (losses * _beside(losses, weights)).sum() / denominator.of(criterion, call), losses, None


def _check_reduction(criterion: nn.Module) -> None:
    if criterion.reduction not in ("none", *_REDUCED):
        raise InvalidValue(
            f"reduction={criterion.reduction!r} is not known: one of 'mean', 'sum', 'batchmean', 'none'."
        )


def _beside(losses: Tensor, weights: Tensor) -> Tensor:
    """`weights` (batch,) on the losses' device and in their dtype, with as many axes as they have, for broadcasting."""
    shape = (-1, *[1] * (losses.ndim - 1))
    return weights.to(losses.device, losses.dtype, non_blocking=True).view(shape)


def _over(scaled: Tensor, denominator: Any) -> Tensor:
    """The sum of the weighted losses, divided by `denominator`: one number, or (batch,) with one per sample."""
    each = isinstance(denominator, Tensor) and denominator.ndim > 0
    value: Tensor = (scaled / denominator).sum() if each else scaled.sum() / denominator
    return value


def _known(criterion: nn.Module, call: Call, losses: Tensor) -> Any:
    """What the mean of one of torch's criteria divides by: one number, or (batch,) with one per sample."""
    if criterion.reduction == "sum":
        return 1
    if criterion.reduction == "batchmean":
        return len(losses)
    if isinstance(criterion, nn.CTCLoss):  # each loss is divided by the length of its target
        lengths = call.named["target_lengths"] if "target_lengths" in call.named else call.given[3]
        return torch.as_tensor(lengths, device=losses.device).clamp(min=1) * len(losses)
    by_class = isinstance(criterion, (nn.CrossEntropyLoss, nn.NLLLoss, nn.LinearCrossEntropyLoss))
    if not by_class or call.target.is_floating_point():
        return losses.numel()
    ignored = -100 if criterion.ignore_index is None else criterion.ignore_index
    counted = call.target != ignored
    weight: Any = criterion.weight
    if weight is None:
        return counted.sum()
    return torch.where(counted, weight[torch.where(counted, call.target, 0)], 0).sum()
