"""Mistakes: whether the model gets a sample wrong; these samples are the error set of JTT."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import LOGITS_AND_LABELS, Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Last


@register("error")
@dataclass(frozen=True, kw_only=True)
class Error(Named):
    """1 if the prediction is wrong, else 0, at the last observation (Liu et al. 2021, Just Train Twice, equation 3)."""

    fold: Fold = Last()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return LOGITS_AND_LABELS

    def measure(self, logits: Array, labels: Array) -> Array:
        """(batch, classes), (batch,) -> (batch,) float32."""
        return measures.incorrect(logits, labels)
