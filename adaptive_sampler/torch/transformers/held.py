"""A hook inside the training's own loss module, which the loss itself calls: it is told the batch's rows."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.transformers.step import TrainerStep, use_weights


def holds(trainer: Any, hook: nn.Module) -> bool:
    """Whether the hook lies in the Trainer's loss module (sentence-transformers have one), or in its model."""
    loss = getattr(trainer, "loss", None)
    several = [*loss.values()] if isinstance(loss, Mapping) else [loss, getattr(trainer, "model", None)]
    return any(module is hook for one in several if isinstance(one, nn.Module) for module in one.modules())


class Held:
    """Tells a hook inside the loss the rows of exactly this batch, as `watch` would."""

    def __init__(self, hook: LossHook | TokenLossHook) -> None:
        self.hook = hook

    def run(self, call: Callable[[], Any], model: Any, step: TrainerStep) -> Any:
        """Call `compute_loss` for a step -> what it returned. Raises `InvalidValue` if the loss does not call the hook."""
        if step.weights is not None:
            use_weights(self.hook, step.trainer.adaptive_sampler)
        pending, owner = self.hook._adaptive_sampler.pending, object()
        pending.expect(owner)
        pending.put(step.rows, owner)
        try:
            result = call()
            unused = self._unused(len(step.rows))
        finally:
            pending.forget(owner)
        if unused:
            raise InvalidValue(
                f"the loss of {type(step.trainer).__name__} holds the hook and did not call it: nothing was recorded. Put the hook "
                "in the place of the criterion that it calls, loss.loss_fct = LossHook(loss.loss_fct, store), or pass "
                "hook=LossHook(TrainersLoss(), store), which records the losses that it takes the mean of."
            )
        return result

    def _unused(self, length: int) -> bool:
        try:
            self.hook.claim(length)
        except InvalidValue:  # the rows were used
            return False
        return True
