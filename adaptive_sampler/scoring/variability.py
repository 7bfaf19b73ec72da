"""Variability: how much the probability of the label moves, the other axis of a data map."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import LOGITS_AND_LABELS, Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Deviation


@register("variability")
@dataclass(frozen=True, kw_only=True)
class Variability(Named):
    """The standard deviation (ddof 0) of p(label) over epochs (Swayamdipta et al. 2020, Dataset Cartography, section 2)."""

    fold: Fold = Deviation()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return LOGITS_AND_LABELS

    def measure(self, logits: Array, labels: Array) -> Array:
        """(batch, classes), (batch,) -> (batch,) float32."""
        return measures.confidence(logits, labels)
