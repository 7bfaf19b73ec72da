"""A criterion with another `reduction`, beside the criterion itself, which stays as it is."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import nn

from adaptive_sampler.errors import InvalidValue

_UNSET = (AttributeError, RuntimeError, TypeError, ValueError)  # what setting an attribute may raise


@contextmanager
def twin(criterion: nn.Module, reduction: Any, copied: Any = None) -> Iterator[nn.Module]:
    """A copy with this `reduction` that shares parameters and buffers; `copied`, where one was made before.

    Where setting it may reach what the criterion shares (a property, a compiled module), it is set back at the end.
    Raises `InvalidValue` for a criterion that cannot be copied, or whose `reduction` cannot be set or set back.
    """
    if copied is None:
        copied = copied_of(criterion)
    if _plain(criterion):
        copied.reduction = reduction
        yield copied
        return
    before, lacking = criterion.reduction, [module for module in criterion.modules() if "reduction" not in vars(module)]
    try:
        _set(criterion, copied, reduction)
        yield copied
    finally:
        with suppress(*_UNSET):
            criterion.reduction = before
        for module in lacking:  # where it is the class's
            vars(module).pop("reduction", None)
        if criterion.reduction != before:
            raise InvalidValue(_fixed(criterion, f"has a `reduction` that cannot be set back to {before!r}"))


def copied_of(criterion: nn.Module) -> Any:
    """`copy.copy` of it, or `InvalidValue`."""
    try:
        return copy.copy(criterion)
    except Exception as error:  # whatever its own pickling raises, TorchScript's among it
        raise InvalidValue(_fixed(criterion, f"cannot be copied ({error!r})")) from error


def _plain(criterion: nn.Module) -> bool:
    """Whether `reduction` is an attribute of the copy alone, whoever reads it."""
    if type(criterion).__setattr__ is not nn.Module.__setattr__:
        return False
    static = next((vars(kind)["reduction"] for kind in type(criterion).__mro__ if "reduction" in vars(kind)), None)
    return not hasattr(type(static), "__set__")


def _set(criterion: nn.Module, module: Any, reduction: Any) -> None:
    try:
        module.reduction = reduction
    except _UNSET as error:
        raise InvalidValue(
            _fixed(criterion, f"has a `reduction` that cannot be set to {reduction!r} ({error})")
        ) from error
    if module.reduction != reduction:
        raise InvalidValue(
            _fixed(criterion, f"has a `reduction` that stays {module.reduction!r} when set to {reduction!r}")
        )


def _fixed(criterion: nn.Module, why: str) -> str:
    return (
        f"{type(criterion).__name__} {why}, and the losses of single samples are taken with reduction='none'. Make it with "
        "reduction='none' and reduce in the loop: losses = hook(input, target); losses.mean().backward(). Or compute the "
        "losses as you do and call hook.record(rows, loss=losses)."
    )
