"""Influence: what a sample's weight does to the loss on clean data."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring.base import Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Last


@register("influence")
@dataclass(frozen=True, kw_only=True)
class Influence(Named):
    """d(mean clean loss) / d(weight of the sample): positive where training on it harms (Koh & Liang 2017, equation 2).

    Observed as `influence`, which `adaptive_sampler.torch.gradients.influence` computes."""

    fold: Fold = Last()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return (("influence",),)

    def measure(self, influence: Array) -> Array:
        """(batch,) -> (batch,), as computed elsewhere."""
        return influence
