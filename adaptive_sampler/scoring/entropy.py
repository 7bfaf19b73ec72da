"""Entropy: how undecided the model is, without regard to the label."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Last


@register("entropy")
@dataclass(frozen=True, kw_only=True)
class Entropy(Named):
    """The entropy of softmax(logits), in nats, at the last observation. It needs no labels."""

    fold: Fold = Last()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return (("logits",),)

    def measure(self, logits: Array) -> Array:
        """(batch, classes) -> (batch,) float32."""
        return measures.entropy(logits)
