"""Confidence: the probability that the model gives to the label; one axis of a data map."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import LOGITS_AND_LABELS, Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Mean


@register("confidence")
@dataclass(frozen=True, kw_only=True)
class Confidence(Named):
    """The mean of p(label) over epochs (Swayamdipta et al. 2020, Dataset Cartography, section 2)."""

    fold: Fold = Mean()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return LOGITS_AND_LABELS

    def measure(self, logits: Array, labels: Array) -> Array:
        """(batch, classes), (batch,) -> (batch,) float32."""
        return measures.confidence(logits, labels)
