"""GraNd: how hard a sample pulls on all parameters at once."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring.base import Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Mean


@register("grand")
@dataclass(frozen=True, kw_only=True)
class GraNd(Named):
    """The norm of the sample's own gradient, averaged over runs (Paul et al. 2021, definition 2.1).

    Observed as `grand`, which `adaptive_sampler.torch.gradients.grand` computes."""

    fold: Fold = Mean()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return (("grand",),)

    def measure(self, grand: Array) -> Array:
        """(batch,) -> (batch,), as computed elsewhere."""
        return grand
