"""Records what the model returns in the Trainer's own forward pass, and replaces its loss where the plan weighs."""

import math
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.transformers.step import TrainerStep

_TWICE = (
    "the model is called twice with gradients in one compute_loss, and it is in doubt which outputs the loss is made of. "
    "Override compute_loss: take the rows off the inputs and return hook(outputs.logits, labels, rows=rows); or leave hook= "
    "out: the sampler selects without."
)


class Readout(Protocol):
    """What a hook takes of one forward pass."""

    half: bool  # whether something of it is of half precision

    def losses(self) -> dict[str, float]:
        """What the hook's own loss, unweighted, would be, in each way to divide it: its name -> the value."""

    def weighed(self, output: Any) -> tuple[Any, float]:
        """Record, and weigh -> (what the model returned, with the weighted loss; that loss)."""

    def record(self) -> None:
        """Record it."""

    def explain(self, own: float) -> str:
        """What is wrong if the Trainer's loss is `own`, and none of `losses`."""


class Forward:
    """Watches the model's forward pass in `compute_loss`; once, the hook's loss is compared with the Trainer's.

    `read`: (step, module, output) -> `Readout`. `compare`: whether the losses must be equal where nothing weighs them.
    """

    def __init__(self, read: Callable[[TrainerStep, Any, Any], Readout], *, compare: bool) -> None:
        self.read = read
        # Whether the losses are still to be compared: those of a step without weights, and of one with weights.
        self._plain, self._weighted = compare, True

    def run(self, call: Callable[[], Any], model: Any, step: TrainerStep) -> Any:
        """Call `compute_loss` for a step, and record -> what it returned.

        Raises `InvalidValue` if nothing can be read of what the model returns, if it is called twice or never, or if the
        Trainer's loss is not the hook's.
        """
        seen: list[tuple[Readout, float | None]] = []

        def see(module: Any, given: Any, output: Any) -> Any:
            if not torch.is_grad_enabled():
                return None
            if seen:
                raise InvalidValue(_TWICE)
            reading = self.read(step, module, output)
            changed, value = (None, None) if step.weights is None else reading.weighed(output)
            seen.append((reading, value))
            return changed

        handle = model.register_forward_hook(see)
        try:
            result = call()
        finally:
            handle.remove()
        if not seen:
            raise InvalidValue(
                f"compute_loss of {type(step.trainer).__name__} never calls the model that it is given, with gradients: there is "
                "nothing to record. Override compute_loss and return hook(logits, labels, rows=rows), or leave hook= out."
            )
        reading, value = seen[0]
        loss = result[0] if isinstance(result, tuple) else result
        if value is not None:
            self._compare_weighted(loss, value, step, reading.half)
        else:
            self._compare_plain(loss, step, reading)
            reading.record()
        return result

    def _compare_plain(self, loss: torch.Tensor, step: TrainerStep, reading: Readout) -> None:
        """Raise `InvalidValue` if the hook's loss is not what `compute_loss` returned."""
        if not self._plain:
            return
        own, found = loss.item(), reading.losses()
        if not all(map(math.isfinite, (own, *found.values()))):
            return  # compared at the next step
        equal = {name for name, x in found.items() if near(own, step.scale * x, half=reading.half)}
        if not equal:
            raise InvalidValue(reading.explain(own))
        self._plain = False
        if "sum" in found and "sum" not in equal:
            _warn_of_accumulation(step)

    def _compare_weighted(self, loss: torch.Tensor, value: float, step: TrainerStep, half: bool) -> None:
        """Raise `InvalidValue` if the weighted loss is not what `compute_loss` returned."""
        if not self._weighted:
            return
        own = loss.item()
        if math.isfinite(own) and not near(own, step.scale * value, half=half):
            raise InvalidValue(
                f"{step.trainer.adaptive_sampler.policy} weighs samples, and the weighted loss is {step.scale * value:.6g}, but "
                f"compute_loss of {type(step.trainer).__name__} returned {own:.6g}: its loss is not that which the model returns, "
                "so weights would not reach it. Have it take the model's own loss, or override compute_loss and return "
                "hook(outputs.logits, labels, rows=rows), the hook being made with sampler=sampler."
            )
        self._weighted = False


def _warn_of_accumulation(step: TrainerStep) -> None:
    """Warn of a model that takes the mean of its own batch, and of which the Trainer thinks that it divides by the step's items.

    The Trainer then does not divide by the number of accumulated batches (transformers 5.23; its issue 47688).
    """
    trainer = step.trainer
    batches = trainer.args.gradient_accumulation_steps
    if batches > 1 and trainer.model_accepts_loss_kwargs and step.items is not None:
        kind = type(trainer.accelerator.unwrap_model(trainer.model)).__name__
        warnings.warn(
            f"{kind} takes the mean over its own batch and ignores num_items_in_batch, while the Trainer relies on it and does not "
            f"divide by gradient_accumulation_steps={batches}: losses and gradients are {batches} times as large as those of one "
            "batch. Say model.accepts_loss_kwargs = False before you make the Trainer.",
            RuntimeWarning,
            stacklevel=2,
        )


def near(a: float, b: float, *, half: bool) -> bool:
    """Whether two losses are equal up to rounding; never if one is not finite."""
    return abs(a - b) <= (1e-2 if half else 1e-4) * max(abs(a), abs(b), 1e-2)


def summed(own: torch.Tensor, mean: float, total: float, *, half: bool) -> bool:
    """Whether the model's `own` loss is `total`, over the items of the whole step, and not the batch's `mean`."""
    loss = own.item()
    return near(loss, total, half=half) and not near(loss, mean, half=half)
