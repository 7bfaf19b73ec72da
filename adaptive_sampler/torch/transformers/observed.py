"""What a Trainer's own `observation` says of a batch, for models whose outputs are no logits and labels."""

from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.hook.mining import refuse_elsewhere
from adaptive_sampler.torch.transformers.outputs import is_half, loss_in, with_loss
from adaptive_sampler.torch.transformers.step import TrainerStep


class Observed:
    """One forward pass, as the Trainer's `observation(outputs, inputs)` describes it: arrays by name, (batch, …)."""

    def __init__(self, hook: LossHook, step: TrainerStep, output: Any, observation: dict[str, Any]) -> None:
        self.hook, self.step, self.observation = hook, step, observation
        self.own = loss_in(output)
        self.half = is_half(self.own, *observation.values())
        loss = observation.get("loss")
        self.loss = loss if isinstance(loss, Tensor) else None

    def losses(self) -> dict[str, float]:
        """The mean of the losses, or, if the observation has none, the Trainer's own."""
        kept = self.own if self.loss is None else self.loss.detach().float().mean()
        return {} if kept is None else {"mean": kept.item()}

    def mistaken(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def weighed(self, output: Any) -> tuple[Any, Tensor]:
        """The mean of the weighted losses. Raises `InvalidValue` unless these have a gradient."""
        if self.loss is None or not self.loss.requires_grad or self.own is None:
            raise InvalidValue(
                f"{self.step.trainer.adaptive_sampler.policy} weighs samples: observation(outputs, inputs) must return "
                "{'loss': losses}, one a row, computed from the outputs with their gradients, for a model that returns its loss."
            )
        weights = torch.as_tensor(self.step.weights).to(self.loss.device, self.loss.dtype)
        value = (weights * self.loss).mean()
        return with_loss(output, value), value.detach().clone()  # the Trainer scales the loss in place

    def record(self) -> None:
        """Record the arrays at the batch's rows."""
        arrays = {name: x.detach() if isinstance(x, Tensor) else x for name, x in self.observation.items()}
        refuse_elsewhere(self.hook.mine)
        self.hook.record(self.step.rows, **arrays)

    def explain(self, own: float) -> str:
        """What is wrong if the Trainer's loss is `own`, and not the mean of the losses."""
        return (
            f"the training's loss of this batch is {own:.6g}, and the mean of the losses that observation returned is "
            f"{self.losses()['mean']:.6g}: those would be recorded, and are not what is trained on. Return the losses whose mean "
            "the model trains on, or, under another name than 'loss', what a score of your own takes."
        )
