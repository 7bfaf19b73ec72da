"""One call of a Trainer's `compute_loss` in training: whose rows it is for, and what weighs them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.transformers.at_hand import OWN_LOSS, AtHand


@dataclass
class TrainerStep:
    """A batch on its way through the Trainer's `compute_loss`.

    `inputs`: the batch as it was before that call; `items`: what the Trainer counted in the whole step, over which models
    that are told sum their losses, None if it counts nothing.
    """

    trainer: Any
    batch: AtHand
    inputs: Mapping[str, Any]
    items: Any

    @property
    def rows(self) -> torch.Tensor:
        """Of the batch, (batch,) int64."""
        return self.batch.rows

    @property
    def weights(self) -> np.ndarray | None:
        """The plan's loss weights of the rows, (batch,) float32; None if all are 1."""
        return self.batch.weights

    @property
    def labels(self) -> Any:
        """The batch's labels: its `labels`, or its only entry of the Trainer's `label_names`; None if there are none."""
        if "labels" in self.inputs:
            return self.inputs["labels"]
        named = [self.inputs[name] for name in self.trainer.label_names or () if name in self.inputs]
        return named[0] if len(named) == 1 else None

    @property
    def bounds(self) -> dict[str, Any]:
        """Where documents begin in a batch that the collator laid into one row, and what is padding: for a `TokenLossHook`."""
        names = {"position_ids": "position_ids", "cu_seqlens": "cu_seq_lens_q", "seq_idx": "seq_idx"}
        mask, labels = self.inputs.get("attention_mask"), self.labels
        # Without a shift nothing is predicted from padding, and the mask may be an encoder's, of other tokens.
        fits = isinstance(mask, torch.Tensor) and mask.shape == labels.shape and not mask.is_floating_point()
        padding = {"attention_mask": mask} if fits and getattr(self.batch.hook, "shift", False) else {}
        if len(self.rows) == len(labels):
            return padding
        return padding | next(({name: self.inputs[given]} for name, given in names.items() if given in self.inputs), {})

    @property
    def scale(self) -> float:
        """What the Trainer multiplies a loss by that is divided by the items of all processes: DDP takes their mean."""
        trainer = self.trainer
        told = self.items is not None and trainer.args.average_tokens_across_devices
        processes = trainer.accelerator.num_processes // trainer.get_tp_size()
        return processes if told and (trainer.model_accepts_loss_kwargs or trainer.compute_loss_func) else 1


def weights_of(sampler: AdaptiveSampler, rows: torch.Tensor) -> np.ndarray | None:
    """The plan's loss weights of `rows`, (batch,) float32; None if all are 1."""
    if not sampler.plan.weighted:
        return None
    weights: np.ndarray = sampler.loss_weights(rows.cpu())
    return None if (weights == 1).all() else weights


def no_loss(step: TrainerStep) -> str:
    """The message for a model that returned no loss which a weighted one could replace."""
    trainer = step.trainer
    given = {
        "label_smoothing_factor": trainer.args.label_smoothing_factor,
        "compute_loss_func": trainer.compute_loss_func,
    }
    used = next((name for name, value in given.items() if value), None)
    behind = f"{used} makes one of the logits. Leave it out, or" if used else "it had no labels. Pass them to it, or"
    return (
        f"{trainer.adaptive_sampler.policy} weighs samples, and the model returned no loss that could be replaced by the weighted "
        f"one: {behind} {OWN_LOSS}."
    )


@contextmanager
def weighed_outside(step: TrainerStep) -> Iterator[None]:
    """A context in which what the hook records counts for its `effective_samples` by the step's weights, applied elsewhere."""
    own = step.batch.hook._adaptive_sampler
    own.elsewhere = step.weights
    try:
        yield
    finally:
        own.elsewhere = None
