"""Reads the logits of tokens, or what a fused head measures of them, from a model's outputs, for a `TokenLossHook`."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.transformers.at_hand import OWN_LOSS
from adaptive_sampler.torch.transformers.forward import Divisor, near
from adaptive_sampler.torch.transformers.fused import FusedTokens
from adaptive_sampler.torch.transformers.outputs import auxiliary, is_half, logits_in, loss_in, no_tokens, with_loss
from adaptive_sampler.torch.transformers.step import TrainerStep, no_loss


def tokens_of(
    hook: TokenLossHook, step: TrainerStep, module: Any, output: Any, divisor: Divisor
) -> "TokenLogits | FusedTokens":
    """One forward pass, as a `TokenLossHook` sees it. Raises `InvalidValue` if there are no logits of labels in it."""
    labels = step.labels
    if labels is None:
        raise InvalidValue(
            f"the batch has {sorted(step.inputs)}, and no labels: there are no tokens whose loss could be recorded. Have the "
            "collator give labels (for a causal model DataCollatorForLanguageModeling(tokenizer, mlm=False)); a loss of something "
            "else, as of pairs, is recorded by hook=LossHook(TrainersLoss(), store)."
        )
    if isinstance(output, Mapping) and isinstance(output.get("log_probs"), Tensor) and "label_mask" in output:
        return FusedTokens(hook, step, output)
    logits = logits_in(output, labels)
    if logits is not None and labels.ndim != 2:
        raise InvalidValue(no_tokens(logits, labels))
    if logits is None or logits.ndim != 3:
        raise InvalidValue(_hidden(step, output, labels, logits))
    if logits.shape[:2] != labels.shape:
        raise InvalidValue(no_tokens(logits, labels))
    return TokenLogits(hook, step, module, output, logits, divisor)


class TokenLogits:
    """(batch, tokens, vocabulary) logits and (batch, tokens) labels of one forward pass."""

    def __init__(
        self, hook: TokenLossHook, step: TrainerStep, module: Any, output: Any, logits: Tensor, divisor: Divisor
    ) -> None:
        self.hook, self.step, self.logits, self.labels, self.divisor = hook, step, logits, step.labels, divisor
        self.own, self.half = loss_in(output), is_half(logits, loss_in(output))
        self.bounds = step.bounds
        self.auxiliary = auxiliary(step.trainer.accelerator.unwrap_model(module), output)

    def losses(self) -> dict[str, float]:
        """The hook's own loss, as the mean over the tokens that count, and over the step's items."""
        aside = float(torch.as_tensor(self.auxiliary).detach())
        return {"mean": self._value(None) + aside, "sum": self._value(self.step.items) + aside}

    def mistaken(self) -> dict[str, float]:
        """What a hook of the other `shift` would give."""
        hook = self.hook
        hook.shift = not hook.shift
        try:
            return {name: x for name, x in self.losses().items() if math.isfinite(x)}
        finally:
            hook.shift = not hook.shift

    def weighed(self, output: Any) -> tuple[Any, Tensor]:
        """Σ weight · (sum of a document's losses) over the denominator of the model's own loss, in its place."""
        if self.own is None:
            raise InvalidValue(no_loss(self.step))
        items = self.step.items if self.divisor.by_items(self, self.step.items) else None
        with self.hook.again():
            value = self.hook(self.logits, self.labels, rows=self.step.rows, num_items_in_batch=items, **self.bounds)
        value = value + self.auxiliary
        return with_loss(output, value), value.detach().clone()  # the Trainer scales the loss in place

    def record(self) -> None:
        """Record the documents."""
        self.hook.record_outputs(self.step.rows, self.logits.detach(), self.labels, **self.bounds)

    def explain(self, own: float) -> str:
        """What is wrong if the Trainer's loss is `own`, and not the hook's."""
        hooks, hook = self.losses()["mean"], self.hook
        said = (
            f"the training's loss of this batch is {own:.6g}, and TokenLossHook(shift={hook.shift}) gives {hooks:.6g}: "
        )
        if any(near(own, self.step.scale * x, half=self.half) for x in self.mistaken().values()):
            other = not hook.shift
            return f"{said}the model's is that of shift={other}. Make the hook so: TokenLossHook(store, shift={other})."
        bounds, self.bounds = self.bounds, {}
        found = self.losses()
        self.bounds = bounds
        if bounds and any(near(own, self.step.scale * x, half=self.half) for x in found.values()):
            return (
                f"{said}the model also predicts the first token of a document from the one before it in the pack. Have the "
                "collator give these labels -100, as DataCollatorWithFlattening and TRL's padding_free do."
            )
        return (
            f"{said}the scores would not be those of the loss that is trained on. Where ignored labels have another number than "
            "-100, say TokenLossHook(store, ignore_index=...); where the loss has other parts, or is computed otherwise, have "
            f"your Trainer {OWN_LOSS}."
        )

    def _value(self, items: Any) -> float:
        if items is not None and not float(items):  # no token of the step counts: what Hugging Face's models give then
            return math.nan
        with torch.no_grad():
            return float(self.hook(self.logits.detach(), self.labels, num_items_in_batch=items, **self.bounds))


def _hidden(step: TrainerStep, output: Any, labels: Tensor, logits: Tensor | None) -> str:
    """The message for a model that returns no logits of its labels."""
    if getattr(step.trainer.args, "use_liger_kernel", False) and logits is None:
        return (
            "use_liger_kernel=True: Liger's fused loss never has the logits, so nothing can be recorded or weighed. Set "
            "use_liger_kernel=False, or liger_kernel_config={'fused_linear_cross_entropy': False}, which keeps its other "
            "kernels; or override compute_loss: return hook.linear(hidden, lm_head.weight, inputs['labels'])."
        )
    names = list(output) if isinstance(output, Mapping) else f"a {type(output).__name__}"
    shape = "" if logits is None else f", with logits {tuple(logits.shape)}"
    return (
        f"the model returned {names}{shape}: no (batch, tokens, vocabulary) logits belong to its labels {tuple(labels.shape)}. "
        "Have it return logits (a fused loss hides them: hook.linear computes one of its own), take a LossHook where labels "
        "are one a sample, or leave hook= out: the sampler selects without."
    )
