"""L2RW: the weight a sample earns by pulling the way a small clean set wants."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array
from adaptive_sampler.scoring.base import Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import EMA


@register("l2rw")
@dataclass(frozen=True, kw_only=True)
class L2RW(Named):
    """weight × batch size, a moving average (Ren et al. 2018, Learning to Reweight Examples, equation 9).

    Observed as `l2rw`, which `adaptive_sampler.torch.L2RWLoss` computes; × batch size makes batches of different length
    comparable."""

    fold: Fold = EMA()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return (("l2rw",),)

    def measure(self, l2rw: Array) -> Array:
        """(batch,) -> (batch,), as computed elsewhere."""
        return l2rw
