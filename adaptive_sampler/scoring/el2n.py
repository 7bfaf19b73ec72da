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

    The paper takes it in evaluation mode without augmentation, a few epochs in, over about ten initialisations; see
    `adaptive_sampler.torch.observe`. `squared=True` is the variant of some re-implementations: it ranks means otherwise.
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
