"""EL2N: how far a sample's predicted probabilities are from its label."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import LOGITS_AND_LABELS, Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Mean


@register("el2n")
@dataclass(frozen=True, kw_only=True)
class EL2N(Named):
    """‖softmax(logits) − onehot(label)‖₂, averaged (Paul et al. 2021, Deep Learning on a Data Diet, definition 2.3).

    The paper measures it in evaluation mode, without augmentation, after a few epochs, and averages it over about ten
    initialisations; see `adaptive_sampler.torch.observe`. `squared=True` squares each value before averaging, as some
    re-implementations do; the means then rank differently.
    """

    squared: bool = False
    fold: Fold = Mean()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return LOGITS_AND_LABELS

    def measure(self, logits: Array, labels: Array) -> Array:
        """(batch, classes), (batch,) or (batch, classes) -> (batch,) float32."""
        norm = measures.el2n(logits, labels)
        return norm * norm if self.squared else norm
