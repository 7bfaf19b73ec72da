"""What has once been found of a model and a loss, kept for as long as both live."""

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
# Findings of one model that are kept, the latest: a word that a module changes at each step would else fill the memory.
_KEPT = 64


@dataclass(frozen=True, slots=True)
class _Finding(Generic[T]):
    parts: list[Callable[[], Any]]  # of the loss function; each gives None once it is gone
    circumstances: Hashable
    value: T

    def is_of(self, parts: list[Any], circumstances: Hashable) -> bool:
        kept = [part() for part in self.parts]
        return (
            len(kept) == len(parts)
            and all(a is b or (type(a) is type(b) is tuple and a == b) for a, b in zip(kept, parts, strict=True))
            and self.circumstances == circumstances
        )


class Remembered(Generic[T]):
    """One value for each model, loss function and circumstances; neither of the two is kept alive."""

    def __init__(self) -> None:
        self._findings: weakref.WeakKeyDictionary[nn.Module, list[_Finding[T]]] = weakref.WeakKeyDictionary()

    def get(self, model: nn.Module, loss_fn: LossFn, circumstances: Hashable) -> T | None:
        """What was found, or None."""
        parts = _parts(loss_fn)
        found = (finding for finding in self._findings.get(model, []) if finding.is_of(parts, circumstances))
        return next((finding.value for finding in found), None)

    def put(self, model: nn.Module, loss_fn: LossFn, circumstances: Hashable, value: T) -> T:
        """Keep it and give it back; a loss function with a part that cannot be referred to weakly is asked about each time."""
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
    """What is cheap to see of all that decides which operators a model runs.

    Its modules, their modes, switches and words; dtypes; and the tensors' axes, those after the batch by the power of two
    that they do not exceed, so that ragged lengths stay few.
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
    """`training` and all else that is on or off or a word; no numbers, which may count the steps."""
    return tuple(item for item in vars(module).items() if type(item[1]) in (bool, str))


def is_time(use: int) -> bool:
    """Whether to look anew at this use: the first, second, fourth, eighth and so on, so that the cost vanishes."""
    return use & (use - 1) == 0


def _parts(loss_fn: LossFn) -> list[Any]:
    """What tells it from another: a lambda in a loop, or a bound method, is a new object each time and the same function."""
    if inspect.ismethod(loss_fn):
        return [loss_fn.__func__, loss_fn.__self__]
    if not inspect.isfunction(loss_fn):
        return [loss_fn]
    given = (*(loss_fn.__defaults__ or ()), *(loss_fn.__kwdefaults__ or {}).values())
    closed_over = (_content(cell) for cell in loss_fn.__closure__ or ())
    return [loss_fn.__code__, *(_plain(value) for value in (*closed_over, *given))]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return ()


def _plain(value: Any) -> Any:
    """Numbers, words and tensors by what they are: a weight for each batch is no other function."""
    if isinstance(value, Tensor):
        return value.dtype, value.ndim
    return (value,) if value is None or isinstance(value, bool | int | float | str) else value


def _held(part: Any) -> Callable[[], Any]:
    return (lambda: part) if type(part) is tuple else weakref.ref(part)
