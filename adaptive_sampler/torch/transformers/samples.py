"""Reads logits and labels of single samples from a model's outputs, for a `LossHook`."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.hook.reduction import is_torchs, unreduced
from adaptive_sampler.torch.transformers.forward import Divisor
from adaptive_sampler.torch.transformers.held import other_way
from adaptive_sampler.torch.transformers.outputs import Chosen, is_half, loss_in, no_tokens, shaped, with_loss
from adaptive_sampler.torch.transformers.step import TrainerStep, no_loss


class SampleLogits:
    """One forward pass, as a `LossHook` sees it: (batch, …) logits and labels. Raises `InvalidValue` if there are none."""

    def __init__(self, hook: LossHook, step: TrainerStep, output: Any, chosen: Chosen, divisor: Divisor) -> None:
        self.hook, self.step, self.divisor, labels = hook, step, divisor, step.labels
        logits = None if labels is None else chosen.logits(output, labels, self._losses_of)
        if logits is None:
            raise InvalidValue(_nothing(output, step))
        whole = not labels.is_floating_point()
        if whole and labels.ndim > 1 and not _of_tokens(logits, labels):
            raise InvalidValue(no_tokens(logits, labels))
        if whole and labels.ndim > 1:
            raise InvalidValue(
                f"labels {tuple(labels.shape)} are of tokens, and a LossHook records one loss a sample: hook=TokenLossHook(store), "
                "with shift=False where the model does not predict the next token (masked, sequence to sequence, tagging)."
            )
        self.logits, self.labels = shaped(logits, labels), labels
        self.own = loss_in(output)
        self.half = is_half(logits, self.own)

    def losses(self) -> dict[str, float]:
        """The criterion's own value, and as the share of a whole step that models give which are told its items."""
        mean = self._mean()
        return {"mean": mean, "sum": mean * self._share()}

    def mistaken(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def weighed(self, output: Any) -> tuple[Any, Tensor]:
        """Σ w·ℓ over the denominator of the model's own loss, in its place."""
        if self.own is None:
            raise InvalidValue(no_loss(self.step))
        if self.hook.sampler is None:  # as its criterion has no reduction, which is told here
            self.hook.sampler = self.step.trainer.adaptive_sampler
        with self.hook.again():
            value = self.hook(self.logits, self.labels, rows=self.step.rows)
        if self.divisor.by_items(self, self.step.items):
            value = value * self._share()
        return with_loss(output, value), value.detach().clone()  # the Trainer scales the loss in place

    def record(self) -> None:
        """Record logits, labels and, of several targets a sample, the mean of their losses."""
        logits = self.logits.detach()
        losses = _of_targets(self.hook, logits, self.labels)
        self.hook.record_outputs(self.step.rows, logits, self.labels, losses)

    def explain(self, own: float) -> str:
        """What is wrong if the Trainer's loss is `own`, and not the criterion's."""
        return (
            f"the training's loss of this batch is {own:.6g}, and the hook's {type(self.hook.criterion).__name__} gives "
            f"{self._mean():.6g} of the same logits and labels: its losses would be recorded, and are not those trained on. Give "
            "the hook the model's own criterion, or leave Loss() out of the store; for a loss of several parts override "
            "observation(outputs, inputs) in your Trainer."
        )

    def _mean(self) -> float:
        return self._of(self.logits, self.labels)

    def _of(self, logits: Tensor, labels: Any) -> float:
        criterion = self.hook.criterion
        with torch.no_grad(), torch.random.fork_rng():
            own = criterion if is_torchs(criterion) else copy.deepcopy(criterion)
            value = own(logits.detach(), labels)
        return float(value.float().mean())

    def _losses_of(self, logits: Tensor) -> Iterator[float]:
        """What a model may give as its loss of these logits."""
        labels = self.step.labels
        try:
            mean = self._of(shaped(logits, labels), labels)
        except (
            IndexError,
            RuntimeError,
            ValueError,
        ):  # these are no logits of the labels: fewer classes than they have
            return
        yield from (mean, mean * self._share())

    def _share(self) -> float:
        counted = (self.step.labels != -100).sum()
        return 1.0 if self.step.items is None else float(counted / self.step.items)


def _of_tokens(logits: Tensor, labels: Tensor) -> bool:
    return labels.ndim == 2 and logits.shape[:-1] == labels.shape


def _of_targets(hook: LossHook, logits: Tensor, labels: Any) -> Tensor | None:
    """(batch,) losses, each the mean over the sample's targets, as multi-label models compute it; None for the hook's own."""
    several = isinstance(labels, Tensor) and labels.ndim == 2 and labels.is_floating_point()
    if not several or getattr(hook.criterion, "reduction", None) != "mean" or not hook.store.session.takes("loss"):
        return None
    with torch.no_grad():
        losses = unreduced(hook.criterion, logits, labels)
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def _nothing(output: Any, step: TrainerStep) -> str:
    names = list(output) if isinstance(output, Mapping) else f"a {type(output).__name__}"
    return (
        f"the model returned {names}, and the batch has {sorted(step.inputs)}: there are no logits among them that belong to "
        "labels, so the hook has nothing to record. Pass hook=LossHook(TrainersLoss(), store) where the Trainer takes the mean "
        f"of one loss a row; else {other_way(step.trainer)}: the sampler selects without."
    )
