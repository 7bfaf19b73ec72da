"""L2RW: the weight of a sample, which is high if its gradient agrees with the gradient of a small clean set."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring.base import Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import EMA


@register("l2rw")
@dataclass(frozen=True, kw_only=True)
class L2RW(Named):
    """A moving average of weight × batch size (Ren et al. 2018, Learning to Reweight Examples, equation 9).

    The observation must have it as `l2rw`; `adaptive_sampler.torch.L2RWLoss` computes it. The factor makes batches of
    different sizes comparable.
    """

    fold: Fold = EMA()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return (("l2rw",),)

    def measure(self, l2rw: Array) -> Array:
        """(batch,) -> (batch,), unchanged."""
        return l2rw
