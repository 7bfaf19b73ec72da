"""GraNd: the norm of the gradient that a single sample gives to all parameters."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring.base import Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Mean


@register("grand")
@dataclass(frozen=True, kw_only=True)
class GraNd(Named):
    """‖∇ℓ(sample)‖₂ over all parameters, averaged over runs (Paul et al. 2021, definition 2.1).

    The observation must have it as `grand`; `adaptive_sampler.torch.gradients.grand` computes it.
    """

    fold: Fold = Mean()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return (("grand",),)

    def measure(self, grand: Array) -> Array:
        """(batch,) -> (batch,), unchanged."""
        return grand
