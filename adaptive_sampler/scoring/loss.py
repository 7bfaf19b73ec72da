"""The loss itself, kept by any fold; hard-example mining, self-paced learning and InfoBatch select by it."""

from dataclasses import dataclass

from adaptive_sampler.arrays import Array, as_array
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import Fold, Inputs, Named, register
from adaptive_sampler.scoring.folds import Last


@register("loss")
@dataclass(frozen=True, kw_only=True)
class Loss(Named):
    """The observation's `loss`, (batch,), if it has one, else the cross entropy of `logits` and `labels`, in nats."""

    fold: Fold = Last()
    name: str = ""

    @property
    def inputs(self) -> Inputs:
        return (("loss",), ("logits", "labels"))

    def measure(self, loss: Array = None, logits: Array = None, labels: Array = None) -> Array:
        """`loss` (batch,) -> itself; or `logits` (batch, classes), `labels` (batch,) or (batch, classes) -> (batch,).

        Raises `InvalidValue` for a loss of another shape.
        """
        if loss is None:
            return measures.cross_entropy(logits, labels)
        loss = as_array(loss)
        if loss.ndim != 1:
            raise InvalidValue(
                f"loss has shape {tuple(loss.shape)}: one loss a sample, (batch,), is needed. Compute it with "
                "reduction='none', and reduce tokens by measures.token_mean."
            )
        return loss
