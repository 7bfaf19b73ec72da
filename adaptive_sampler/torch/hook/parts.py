"""Losses that a model computes itself, of several parts, of pixels or of noise, as a criterion that a hook takes apart."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue

_REDUCTIONS = ("mean", "sum", "none")


class PartsLoss(nn.Module):
    """A criterion whose input are losses, not reduced over the batch: a tensor (batch, …), or a dict of them, its parts.

    A sample's loss is the sum of its parts, each the mean over its further axes; `reduction` "mean", "sum" or "none" is over
    the samples, as of torch's criteria. `hook = LossHook(PartsLoss(), store, sampler=sampler)` is called with what the model
    gives: `hook(model(images, targets))`. Parts of 16 bits are added in float32.
    """

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in _REDUCTIONS:
            raise InvalidValue(f"reduction={reduction!r}: one of {', '.join(map(repr, _REDUCTIONS))}.")
        super().__init__()
        self.reduction = reduction

    def forward(self, losses: Tensor | Mapping[str, Tensor]) -> Tensor:
        """() or, with reduction="none", (batch,). Raises `InvalidValue` for a part without an entry for each sample."""
        refuse_reduced(losses)
        parts = dict(losses) if isinstance(losses, Mapping) else {"loss": losses}
        _check(parts)
        first, *others = map(_of_each, parts.values())
        total: Tensor = sum(others, first)
        return total if self.reduction == "none" else total.sum() if self.reduction == "sum" else total.mean()


def refuse_reduced(losses: Any) -> None:
    """Raise `InvalidValue`, which names it, if a tensor, or a tensor of a dict, has no axis of samples."""
    named = losses.items() if isinstance(losses, Mapping) else [("", losses)]
    for name, part in named:
        if isinstance(part, Tensor) and not part.ndim:
            raise InvalidValue(
                f"{f'{name!r}' if name else 'the input'} is one number for the whole batch, from which the losses of its samples "
                "cannot be told. Compute it unreduced, (batch, ...), or call the model for one sample at a time: "
                "torch.utils.data.default_collate([model([x], [y]) for x, y in zip(inputs, targets)])."
            )


def _check(parts: dict[str, Any]) -> None:
    """Raise `InvalidValue` unless there are parts, all of them tensors with the same number of samples."""
    if not parts:
        raise InvalidValue("a dict without losses: the model gave none. Is it in training mode, model.train()?")
    for name, part in parts.items():
        if not isinstance(part, Tensor):
            raise InvalidValue(
                f"the losses {name!r} are a {type(part).__name__}: a tensor (batch, ...) is needed, with an entry for each sample. "
                "Take out of the dict what is no loss."
            )
    if len({len(part) for part in parts.values()}) > 1:
        told = ", ".join(f"{name!r} has {len(part)}" for name, part in parts.items())
        raise InvalidValue(
            f"the parts of a loss have an entry for each sample of the batch, and {told}. Reduce what is no axis of samples, "
            "such as anchors or boxes, to one loss for each sample."
        )


def _of_each(part: Tensor) -> Tensor:
    """(batch, …) -> (batch,), in 32 bits or more."""
    exact = part if part.dtype.itemsize >= 4 and part.is_floating_point() else part.float()
    return exact.flatten(1).mean(1) if exact.ndim > 1 else exact
