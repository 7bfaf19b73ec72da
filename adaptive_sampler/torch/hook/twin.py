"""A copy of a criterion with another `reduction`, while the criterion itself stays as it is."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import nn

from adaptive_sampler.errors import InvalidValue

_UNSET = (AttributeError, RuntimeError, TypeError, ValueError)  # what setting an attribute may raise


@contextmanager
def twin(criterion: nn.Module, reduction: Any, copied: Any = None) -> Iterator[nn.Module]:
    """A shallow copy of `criterion` with this `reduction`, which shares parameters and buffers with it.

    `copied`: such a copy, if one was made before. Setting `reduction` on the copy may also change what it shares with
    the criterion (through a property, or in a compiled module); that is undone at the end. Raises `InvalidValue` for a
    criterion that cannot be copied, or whose `reduction` cannot be set or set back.
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
        for module in lacking:  # these have it from their class
            vars(module).pop("reduction", None)
        if criterion.reduction != before:
            raise InvalidValue(_fixed(criterion, f"has a `reduction` that cannot be set back to {before!r}"))


def copied_of(criterion: nn.Module) -> Any:
    """A shallow copy, `copy.copy`, of the criterion. Raises `InvalidValue` if it cannot be copied."""
    try:
        return copy.copy(criterion)
    except Exception as error:  # anything: copying runs the criterion's own code, or TorchScript's
        raise InvalidValue(_fixed(criterion, f"cannot be copied ({error!r})")) from error


def _plain(criterion: nn.Module) -> bool:
    """Whether `reduction` is a plain attribute, so that setting it on the copy changes nothing but the copy."""
    if type(criterion).__setattr__ is not nn.Module.__setattr__:
        return False
    static = next((vars(kind)["reduction"] for kind in type(criterion).__mro__ if "reduction" in vars(kind)), None)
    return not hasattr(type(static), "__set__")


def _set(criterion: nn.Module, module: Any, reduction: Any) -> None:
    """Set `module.reduction`. Raises `InvalidValue` if that fails, or has no effect."""
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
    """The message for a criterion whose losses cannot be taken one by one, because `reduction` cannot be changed."""
    return (
        f"{type(criterion).__name__} {why}, and the losses of single samples are taken with reduction='none'. Make it with "
        "reduction='none' and reduce in the loop: losses = hook(input, target); losses.mean().backward(). Or compute the "
        "losses as you do and call hook.record(rows, loss=losses)."
    )
