"""Margins: how clearly a sample's label wins, the score that finds mislabelled samples."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import LOGITS_AND_LABELS, Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Mean


@register("margin")
@dataclass(frozen=True, kw_only=True)
class Margin(Named):
    """logit of the label − the largest other logit, averaged over epochs: AUM (Pleiss et al. 2020, equation 2). Low = suspect."""

    fold: Fold = Mean()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return LOGITS_AND_LABELS

    def measure(self, logits: Array, labels: Array) -> Array:
        """(batch, classes), (batch,) -> (batch,) float32."""
        return measures.margin(logits, labels)
