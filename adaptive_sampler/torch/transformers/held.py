"""A hook inside the training's own loss module, which the loss itself calls."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.transformers.step import TrainerStep


def holds(trainer: Any, hook: nn.Module) -> bool:
    """Whether the hook lies in the Trainer's loss module (sentence-transformers have one), or in its model."""
    loss = getattr(trainer, "loss", None)
    several = [*loss.values()] if isinstance(loss, Mapping) else [loss, getattr(trainer, "model", None)]
    return any(module is hook for one in several if isinstance(one, nn.Module) for module in one.modules())


def other_way(trainer: Any) -> str:
    """What to do where the outputs of the model and the means in `compute_loss` are no losses of samples."""
    loss = getattr(trainer, "loss", None)
    if not isinstance(loss, nn.Module):
        return "have your Trainer's observation(outputs, inputs) return {'loss': losses}, one a row, or leave hook= out"
    inner = (name for name, module in loss.named_modules() if isinstance(module, nn.modules.loss._Loss))
    name = next(inner, None)
    if not name:
        return f"{type(loss).__name__} holds no criterion that a hook could take the place of: leave hook= out"
    return (
        f"put the hook in the criterion's place, loss.{name} = hook = LossHook(loss.{name}, store), or leave hook= out"
    )


class Held:
    """Lets the loss call its hook, which knows the rows of the step."""

    def run(self, call: Callable[[], Any], model: Any, step: TrainerStep) -> Any:
        """Call `compute_loss` for a step -> what it returned. Raises `InvalidValue` if the loss does not call the hook."""
        result = call()
        if not step.batch.called():
            raise InvalidValue(
                f"the loss of {type(step.trainer).__name__} holds the hook and did not call it: nothing was recorded. Put the hook "
                "in the place of the criterion that it calls, loss.loss_fct = LossHook(loss.loss_fct, store), or pass "
                "hook=LossHook(TrainersLoss(), store), which records the losses that it takes the mean of."
            )
        return result
