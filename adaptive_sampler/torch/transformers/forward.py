"""Records what the model returns in the Trainer's own forward pass, and replaces its loss where the plan weighs."""

import math
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.side_effects import Looks
from adaptive_sampler.torch.transformers.at_hand import OWN_LOSS
from adaptive_sampler.torch.transformers.step import TrainerStep, weighed_outside

_EXACT = 1e-6  # of a loss: so near are two that are computed alike

_TWICE = (
    "the model is called twice with gradients in one compute_loss, and it is in doubt which outputs the loss is made of. Have "
    f"your Trainer {OWN_LOSS}; or leave hook= out: the sampler selects without."
)


class Readout(Protocol):
    """What a hook takes of one forward pass."""

    half: bool  # whether something of it is of half precision
    own: torch.Tensor | None  # the loss that the model returned; None if there is none

    def losses(self) -> dict[str, float]:
        """What the hook's own loss, unweighted, would be, in each way to divide it: its name -> the value."""

    def mistaken(self) -> dict[str, float]:
        """The same of a hook that is made otherwise by one mistake, which losses near to each other may hide; may be empty."""

    def weighed(self, output: Any) -> tuple[Any, torch.Tensor]:
        """Weigh -> (what the model returned, with the weighted loss; that loss, () without a gradient)."""

    def record(self) -> None:
        """Record it."""

    def explain(self, own: float) -> str:
        """What is wrong if the Trainer's loss is `own`, and none of `losses`."""


class Forward:
    """Watches the model's forward pass in `compute_loss`, and compares the hook's loss with the Trainer's.

    They are compared once; where a mistake may be hidden at first, again at the 2nd, 4th, 8th, ... step. `read`: (step,
    module, output) -> `Readout`. `compare`: whether the losses must be equal where nothing weighs them.
    """

    def __init__(self, read: Callable[[TrainerStep, Any, Any], Readout], *, compare: bool) -> None:
        self.read, self.compare = read, compare
        # Whether the losses are still to be compared at every step: those without weights, and those with.
        self._plain, self._weighted = compare, True
        self._looks, self._warned = Looks(), False

    def run(self, call: Callable[[], Any], model: Any, step: TrainerStep) -> Any:
        """Call `compute_loss` for a step, and record, unless it calls the hook itself -> what it returned.

        Raises `InvalidValue` if nothing can be read of what the model returns, if it is called twice or never, or if the
        Trainer's loss is not the hook's.
        """
        seen: list[tuple[Readout, torch.Tensor | None]] = []
        doubts: list[InvalidValue] = []  # of no matter where compute_loss calls the hook itself

        def see(module: Any, given: Any, output: Any) -> Any:
            if not torch.is_grad_enabled() or doubts or step.batch.recorded:
                return None
            try:
                if seen:
                    raise InvalidValue(_TWICE)
                reading = self.read(step, module, output)
                changed, value = (None, None) if step.weights is None else reading.weighed(output)
            except InvalidValue as error:
                doubts.append(error)
                return None
            seen.append((reading, value))
            return changed

        handle = model.register_forward_hook(see)
        try:
            result = call()
        except Exception as error:
            if doubts and not step.batch.recorded:
                raise doubts[0] from error
            raise
        finally:
            handle.remove()
        if step.batch.called():
            return result
        if doubts or not seen:
            raise doubts[0] if doubts else InvalidValue(_never(step))
        reading, value = seen[0]
        loss = result[0] if isinstance(result, tuple) else result
        scale = step.scale
        if value is not None:
            self._compare_weighted(loss, value, step, reading.half)
            loss, scale = reading.own, 1  # which the weighted one replaced
        if self._due() and loss is not None:
            self._compare_plain(loss, scale, step, reading)
        step.batch.cover()
        with weighed_outside(step):
            reading.record()
        return result

    def _due(self) -> bool:
        """Count this step, and say whether the losses are compared at it."""
        return self.compare and (self._looks.due() or self._plain)

    def _compare_plain(self, loss: torch.Tensor, scale: float, step: TrainerStep, reading: Readout) -> None:
        """Raise `InvalidValue` if the hook's loss, times `scale`, is not `loss`, or if that of a mistake is nearer to it."""
        own, found, other = loss.item(), reading.losses(), reading.mistaken()
        if not found or not all(map(math.isfinite, (own, *found.values()))):
            return  # compared at the next step
        equal = {name for name, x in found.items() if near(own, scale * x, half=reading.half)}
        apart = min((abs(own - scale * x) for x in found.values()), default=0.0)
        nearer = any(abs(own - scale * x) < apart for x in other.values())
        if not equal or (nearer and apart > _EXACT * abs(own)):
            raise InvalidValue(reading.explain(own))
        self._plain, self.compare = False, bool(other)
        if "sum" in found and "sum" not in equal and not self._warned:
            self._warned = True
            _warn_of_accumulation(step)

    def _compare_weighted(self, loss: torch.Tensor, value: torch.Tensor, step: TrainerStep, half: bool) -> None:
        """Raise `InvalidValue` if the weighted loss is not what `compute_loss` returned."""
        if not self._weighted:
            return
        own, weighted = loss.item(), step.scale * value.item()
        if math.isfinite(own) and not near(own, weighted, half=half):
            raise InvalidValue(
                f"{step.trainer.adaptive_sampler.policy} weighs samples, and the weighted loss is {weighted:.6g}, but "
                f"compute_loss of {type(step.trainer).__name__} returned {own:.6g}: its loss is not that which the model returns, "
                f"so weights would not reach it. Have it take the model's own loss, or {OWN_LOSS}."
            )
        self._weighted = False


def _never(step: TrainerStep) -> str:
    return (
        f"compute_loss of {type(step.trainer).__name__} never calls the model that it is given, with gradients: there is "
        f"nothing to record. Have your Trainer {OWN_LOSS}, or leave hook= out."
    )


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


class Divisor:
    """Whether the model divides its loss by the items of the whole step: found once, at the first step that can tell."""

    def __init__(self) -> None:
        self._by_items: bool | None = None

    def by_items(self, reading: Readout, items: Any) -> bool:
        """False, too, as long as the batch's mean and the share of the step are one, or neither is the model's loss."""
        if items is None or reading.own is None:
            return False
        if self._by_items is None:
            own, found = reading.own.item(), reading.losses()
            shared, alone = (near(own, found[name], half=reading.half) for name in ("sum", "mean"))
            if shared == alone:
                return False
            self._by_items = shared
        return self._by_items
