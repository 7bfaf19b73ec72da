"""Losses that a Trainer computes itself: those over which its `compute_loss` takes the mean."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.hook.mining import refuse_elsewhere
from adaptive_sampler.torch.transformers.held import other_way
from adaptive_sampler.torch.transformers.outputs import is_half
from adaptive_sampler.torch.transformers.step import TrainerStep, weighed_outside

_OF_THE_BATCH = {"aot", "aot_unpaired", "sft"}  # TRL's loss types whose terms are no pair's: sorted, or over all tokens


class TrainersLoss(nn.Module):
    """Stands for the loss that a Trainer computes itself, such as TRL's DPOTrainer: `LossHook(TrainersLoss(), store)`.

    What is recorded are the losses, one a sample, over which `compute_loss` takes the mean: of pairs for the
    DPOTrainer, of queries for MultipleNegativesRankingLoss.
    """

    def forward(self, losses: Tensor, target: Any = None) -> Tensor:
        """`losses` (batch,), as they are."""
        return losses


class Means:
    """Records, and weighs, the losses over which `compute_loss` takes the mean."""

    def __init__(self, trainer: Any, hook: LossHook) -> None:
        self.hook = hook
        refuse_elsewhere(hook.mine)
        other = sorted(_OF_THE_BATCH & set(getattr(trainer, "loss_types", ())))
        if other:
            raise InvalidValue(
                f"loss_type={', '.join(other)}: its terms are no single pair's, so there is no loss of each to record or weigh. "
                "Leave it out, or leave hook= out: the sampler selects without."
            )

    def run(self, call: Callable[[], Any], model: Any, step: TrainerStep) -> Any:
        """Call `compute_loss` for a step, and record its losses -> what it returned.

        Raises `InvalidValue` if it takes no mean over one loss a row, or if its loss is another than that mean.
        """
        n = len(step.rows)
        with _Watch(n) as seen:
            result = call()
        if step.batch.called():
            return result
        loss = result[0] if isinstance(result, tuple) else result
        parts = _parts(loss, seen.means)
        with torch.no_grad():
            whole = sum((part * losses.mean() for part, losses in parts), torch.zeros(()))
            if not parts or any(losses.stride() == (0,) for _, losses in parts):
                raise InvalidValue(_nowhere(step, n))
            if not _adds_up(whole, loss) and not getattr(step.trainer, "aux_loss_enabled", False):
                raise InvalidValue(
                    f"compute_loss of {type(step.trainer).__name__} returned {loss.item():.6g}, and the mean over the rows' losses "
                    f"that it takes is {whole.item():.6g}: it has other parts, which are no sample's. To record "
                    f"what is, {other_way(step.trainer)}."
                )
            step.batch.cover()
            with weighed_outside(step):
                self.hook.record(step.rows, loss=sum((part * losses for part, losses in parts), torch.zeros(())))
        if step.weights is None:
            return result
        weights = torch.from_numpy(step.weights).to(loss.device)
        # Of what the Trainer logs beside the loss, nothing changes.
        loss = loss + sum(part * ((weights - 1) * losses).sum() / n for part, losses in parts)
        return (loss, *result[1:]) if isinstance(result, tuple) else loss


class _Watch(TorchFunctionMode):
    """Keeps the (n,) losses whose mean is taken, and that mean."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.means: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        value = function(*given, **(named or {}))
        alone = function in (Tensor.mean, torch.mean) and len(given) == 1 and not named
        if alone and given[0].shape == (self.n,) and given[0].requires_grad:
            self.means.append((given[0], value))
        return value


def _parts(loss: Tensor, means: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The losses of `means` that `loss` is made of, each with the factor of their mean in it: others are merely logged."""
    if not means:
        return []
    factors = torch.autograd.grad(loss, [mean for _, mean in means], retain_graph=True, allow_unused=True)
    return [(factor, losses) for factor, (losses, _) in zip(factors, means, strict=True) if factor is not None]


def _adds_up(whole: Tensor, loss: Tensor) -> bool:
    """Whether two losses are equal up to rounding, or not finite."""
    near = 1e-2 if is_half(whole, loss) else 1e-4
    difference = (whole - loss).abs().item()
    return not difference > near * max(loss.abs().item(), 1e-2)


def _nowhere(step: TrainerStep, n: int) -> str:
    return (
        f"compute_loss of {type(step.trainer).__name__} takes no mean over {n} losses, one a row of the batch: there is no loss of "
        f"each sample to record or weigh. Instead of TrainersLoss(), {other_way(step.trainer)}: the sampler selects without."
    )
