"""Remembers what was found out about a model and a loss, for as long as both live."""

import inspect
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from adaptive_sampler.torch.data.batches import tensors_of
from adaptive_sampler.torch.gradients.functional import LossFn, Params

T = TypeVar("T")
# How many findings per model are kept, the latest ones. Without a limit, a module that changes a string attribute at
# each step would fill the memory.
_KEPT = 64


@dataclass(frozen=True, slots=True)
class _Finding(Generic[T]):
    """What was found out about one loss function in certain circumstances."""

    parts: list[Callable[[], Any]]  # of the loss function: each call gives one part, or None if it is gone
    circumstances: Hashable
    value: T

    def is_of(self, parts: list[Any], circumstances: Hashable) -> bool:
        """Whether this was found for a loss function of these `parts`, in these `circumstances`."""
        kept = [part() for part in self.parts]
        return (
            len(kept) == len(parts)
            and all(a is b or (type(a) is type(b) is tuple and a == b) for a, b in zip(kept, parts, strict=True))
            and self.circumstances == circumstances
        )


class Remembered(Generic[T]):
    """Keeps one value for each model, loss function and circumstances, without keeping model or loss function alive."""

    def __init__(self) -> None:
        self._findings: weakref.WeakKeyDictionary[nn.Module, list[_Finding[T]]] = weakref.WeakKeyDictionary()

    def get(self, model: nn.Module, loss_fn: LossFn, circumstances: Hashable) -> T | None:
        """The value that was kept, or None."""
        parts = _parts(loss_fn)
        found = (finding for finding in self._findings.get(model, []) if finding.is_of(parts, circumstances))
        return next((finding.value for finding in found), None)

    def put(self, model: nn.Module, loss_fn: LossFn, circumstances: Hashable, value: T) -> T:
        """Keep `value` and return it; nothing is kept for a loss function with a part that allows no weak reference."""
        parts = _parts(loss_fn)
        try:
            held = [_held(part) for part in parts]
        except TypeError:
            return value
        others = [
            finding
            for finding in self._findings.get(model, [])
            if not finding.is_of(parts, circumstances) and not any(part() is None for part in finding.parts)
        ]
        self._findings[model] = [*others[1 - _KEPT :], _Finding(held, circumstances, value)]
        return value


def circumstances(model: nn.Module, params: Params, inputs: Any, labels: Any) -> Hashable:
    """What decides which operators a model runs, as far as it is cheap to see.

    These are its modules, with their modes and all attributes that are bools or strings; dtypes and devices; and the
    number of axes and the lengths of the tensors, without the batch's. Lengths are rounded up to a power of two, so
    that varying ones give few different circumstances.
    """
    device = next(iter(params.values())).device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    modules = tuple((type(module), _switches(module)) for module in model.modules())
    parameters = tuple((name, p.dtype, p.device) for name, p in params.items())
    shapes = tuple(
        (t.dtype, t.ndim, *((max(length, 1) - 1).bit_length() for length in t.shape[1:]))
        for t in tensors_of((inputs, labels))
    )
    return modules, parameters, autocast, shapes


def _switches(module: nn.Module) -> Hashable:
    """The attributes of a module that are bools or strings, `training` among them; no numbers, which may count the steps."""
    return tuple(item for item in vars(module).items() if type(item[1]) in (bool, str))


def is_time(use: int) -> bool:
    """Whether to check again at this use: at the 1st, 2nd, 4th, 8th and so on, so that the cost per use vanishes."""
    return use & (use - 1) == 0


def _parts(loss_fn: LossFn) -> list[Any]:
    """What distinguishes one loss function from another.

    It is not the function object: a lambda in a loop, or a bound method, is a new object each time, but the same
    function.
    """
    if inspect.ismethod(loss_fn):
        return [loss_fn.__func__, loss_fn.__self__]
    if not inspect.isfunction(loss_fn):
        return [loss_fn]
    given = (*(loss_fn.__defaults__ or ()), *(loss_fn.__kwdefaults__ or {}).values())
    closed_over = (_content(cell) for cell in loss_fn.__closure__ or ())
    return [loss_fn.__code__, *(_plain(value) for value in (*closed_over, *given))]


def _content(cell: Any) -> Any:
    """What a closure's cell holds."""
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return ()


def _plain(value: Any) -> Any:
    """A part of a loss function in a form that can be compared.

    Numbers and strings are compared by value, tensors by dtype and number of axes, so that a new weight for each batch
    does not make another function. Anything else is compared by identity.
    """
    if isinstance(value, Tensor):
        return value.dtype, value.ndim
    return (value,) if value is None or isinstance(value, bool | int | float | str) else value


def _held(part: Any) -> Callable[[], Any]:
    """A function that gives the part, or None if it is gone. Raises `TypeError` if the part allows no weak reference."""
    return (lambda: part) if type(part) is tuple else weakref.ref(part)
