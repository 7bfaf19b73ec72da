"""Influence: how the weight of a sample in training changes the loss on clean data."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring.base import Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Last


@register("influence")
@dataclass(frozen=True, kw_only=True)
class Influence(Named):
    """d(mean clean loss) / d(weight of the sample): positive if training on it does harm (Koh & Liang 2017, equation 2).

    The observation must have it as `influence`; `adaptive_sampler.torch.gradients.influence` computes it.
    """

    fold: Fold = Last()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return (("influence",),)

    def measure(self, influence: Array) -> Array:
        """(batch,) -> (batch,), unchanged."""
        return influence
