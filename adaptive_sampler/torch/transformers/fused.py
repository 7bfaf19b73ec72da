"""Reads what TRL's fused head measures of tokens, from a model that computes its loss without the logits."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N
from adaptive_sampler.torch.tokens.batch import batch_of
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.transformers.outputs import is_half
from adaptive_sampler.torch.transformers.step import TrainerStep


class FusedTokens:
    """Per-token measurements, (batch, tokens − 1), of one forward pass by TRL's fused head."""

    def __init__(self, hook: TokenLossHook, step: TrainerStep, output: Mapping[str, Any]) -> None:
        if not hook.shift:
            raise InvalidValue(
                "TRL's fused head predicts the next token, and the hook has shift=False: scores would be those of other tokens. "
                "Make it TokenLossHook(store)."
            )
        if len(step.labels) != len(output["log_probs"]):
            raise InvalidValue(
                f"labels are {tuple(step.labels.shape)}, and the fused head measured {tuple(output['log_probs'].shape)} tokens: "
                "these are not the batch's documents. For a loss of pairs pass hook=LossHook(TrainersLoss(), store)."
            )
        self.hook, self.step, self.output, self.labels = hook, step, output, step.labels
        # the last of them: prompt learning puts virtual tokens before
        self.log_probs: Tensor = output["log_probs"][:, -(self.labels.shape[1] - 1) :]
        self.half = is_half(self.log_probs)
        self.own: Tensor | None = None  # the Trainer computes it
        self.bounds = step.bounds
        aside, trainer = output.get("aux_loss"), step.trainer
        factor = getattr(trainer, "router_aux_loss_coef", 0.0)
        steps = 1 if step.items is None else trainer.current_gradient_accumulation_steps
        self.auxiliary = factor * float(aside.detach()) / steps / step.scale if aside is not None else 0.0

    def losses(self) -> dict[str, float]:
        """The loss as TRL's SFTTrainer computes it: the sum over the step's items, or the mean of the batch."""
        return {"sum": float(-self.log_probs.detach().sum() / self._denominator()) + self.auxiliary}

    def mistaken(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def weighed(self, output: Any) -> tuple[Any, Tensor]:
        """Weigh the log-probabilities, of which the Trainer makes its loss."""
        own = self.hook
        batch = batch_of(self.labels, self.step.rows, self.bounds, own.ignore_index, shift=True)
        weights = torch.from_numpy(self.step.weights).to(self.log_probs.device)
        whole = output["log_probs"]
        weighted = self.log_probs * batch.documents().of_each_position(weights, self.labels.shape)[:, :-1]
        output["log_probs"] = torch.cat([whole[:, : whole.shape[1] - weighted.shape[1]], weighted], dim=1)
        return output, -weighted.detach().sum() / self._denominator() + self.auxiliary

    def record(self) -> None:
        """Record the documents, of what the store's scores take as far as the head measured it."""
        loss = -self.log_probs.detach()
        values = {"loss": loss, "confidence": torch.exp(-loss)}
        for name, of in (("entropy", "entropy"), ("error", "is_top1"), ("el2n", "log_sum_sq_probs")):
            measured = self.output.get(of)
            if measured is not None:
                values[name] = measured.detach()[:, -loss.shape[1] :].float()
        if "error" in values:
            values["error"] = 1 - values["error"]
        if "el2n" in values:
            values["el2n"] = _el2n(-loss.float(), values["el2n"])
        self.hook.record_tokens(self.step.rows, values, self.labels, **self.bounds)

    def explain(self, own: float) -> str:
        """What is wrong if the Trainer's loss is `own`, and not that of the log-probabilities."""
        kind = getattr(self.step.trainer.args, "loss_type", "another")
        return (
            f"the training's loss of this batch is {own:.6g}, and the mean loss of its tokens {self.losses()['sum']:.6g}: "
            f"loss_type={kind!r} makes it otherwise, so the losses that are recorded are not those trained on. Train with "
            "loss_type='nll', or leave Loss() out of the store."
        )

    def _denominator(self) -> Any:
        items = self.step.items
        return self.output["label_mask"].sum().clamp(min=1) if items is None else items


def _el2n(log_prob: Tensor, log_sum_of_squares: Tensor) -> Tensor:
    """‖p − onehot‖₂ = √((1 − p_y)² + Σp² − p_y²), of log p_y and log Σp².

    Each difference is taken before the exponential, as both go to 0 where p_y goes to 1. Good to about 3e-4, as log Σp² comes
    in float32.
    """
    rest = torch.exp(2 * log_prob) * torch.expm1((log_sum_of_squares - 2 * log_prob).clamp(min=0))
    return torch.sqrt(torch.expm1(log_prob) ** 2 + rest)


def measures_el2n(trainer: Any, hook: TokenLossHook) -> None:
    """Have TRL's fused head measure what EL2N takes, if the store keeps that and the Trainer's model has such a head."""
    wanted = any(isinstance(score, EL2N) for score in hook.store.scores)
    if not wanted or not any(kind.__module__.startswith("trl.") for kind in type(trainer).__mro__):
        return
    from trl.trainer.utils import add_fused_lm_head

    model = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1", "log_sum_sq_probs"))
