"""Margins: by how much the label's logit exceeds the others; low margins point to mislabelled samples."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import LOGITS_AND_LABELS, Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Mean


@register("margin")
@dataclass(frozen=True, kw_only=True)
class Margin(Named):
    """AUM: logit of the label − the largest other logit, averaged over epochs (Pleiss et al. 2020, equation 2).

    Samples with low values may be mislabelled.
    """

    fold: Fold = Mean()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return LOGITS_AND_LABELS

    def measure(self, logits: Array, labels: Array) -> Array:
        """(batch, classes), (batch,) -> (batch,) float32."""
        return measures.margin(logits, labels)
