"""Forgetting events: how often training unlearned a sample."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import LOGITS_AND_LABELS, Inputs, Named, register
from adaptive_sampler.scoring.folds import NeverLearned, Runs, Transitions


@register("forgetting")
@dataclass(frozen=True, kw_only=True)
class Forgetting(Named):
    """Transitions from right to wrong between a sample's consecutive presentations (Toneva et al. 2019, definition 2.1).

    Record it before the optimiser's step, in training mode, as the paper does. The literature disagrees on a sample
    that was never right: `never_learned="inf"` (Data Diet's code), `"presentations"` (Toneva's: the number of them) or
    `"zero"` (DeepCore, CCS); and on several runs (`store.begin_run`): `runs="sum"` (Toneva) or `"mean"` (Data Diet).
    """

    never_learned: NeverLearned = "inf"
    runs: Runs = "sum"
    name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        Transitions(self.never_learned, self.runs)  # refuses what it does not know

    @property
    def fold(self) -> Transitions:
        """Counts transitions, per run."""
        return Transitions(self.never_learned, self.runs)

    @property
    def inputs(self) -> Inputs:
        return LOGITS_AND_LABELS

    def measure(self, logits: Array, labels: Array) -> Array:
        """(batch, classes), (batch,) -> (batch,) float32: 1 where wrong."""
        return measures.incorrect(logits, labels)
