"""Forgetting events: how often a sample that was right became wrong again in training."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import LOGITS_AND_LABELS, Inputs, Named, register
from adaptive_sampler.scoring.folds import NeverLearned, Runs, Transitions


@register("forgetting")
@dataclass(frozen=True, kw_only=True)
class Forgetting(Named):
    """Transitions from right to wrong between a sample's consecutive presentations (Toneva et al. 2019, definition 2.1).

    Record it before the optimiser's step, in training mode, as the paper does. The literature disagrees on two points.
    The score of a sample that was never right is infinite in Data Diet's code (`never_learned="inf"`), the number of its
    presentations in Toneva's (`"presentations"`), and zero in DeepCore and CCS (`"zero"`). Several runs (see
    `store.begin_run`) are summed by Toneva (`runs="sum"`) and averaged by Data Diet (`"mean"`).
    """

    never_learned: NeverLearned = "inf"
    runs: Runs = "sum"
    name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        Transitions(self.never_learned, self.runs)  # raises for an unknown choice

    @property
    def fold(self) -> Transitions:
        """The fold that counts the transitions of each run."""
        return Transitions(self.never_learned, self.runs)

    @property
    def inputs(self) -> Inputs:
        return LOGITS_AND_LABELS

    def measure(self, logits: Array, labels: Array) -> Array:
        """(batch, classes), (batch,) -> (batch,) float32: 1 if the prediction is wrong, else 0."""
        return measures.incorrect(logits, labels)
