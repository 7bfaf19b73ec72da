"""What has once been found of a model and a loss, kept for as long as both live."""

import inspect
import weakref
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from adaptive_sampler.torch.functional import LossFn, Params, tensors_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Finding(Generic[T]):
    loss_fn: "weakref.ref[Any]"
    circumstances: Hashable
    value: T

    def is_of(self, loss_fn: LossFn) -> bool:
        found = self.loss_fn()
        # a bound method is made anew each time that it is asked for
        return found is loss_fn or (inspect.ismethod(loss_fn) and found == loss_fn)


class Remembered(Generic[T]):
    """One value for each model, loss function and circumstances; neither of the two is kept alive."""

    def __init__(self) -> None:
        self._findings: weakref.WeakKeyDictionary[nn.Module, list[_Finding[T]]] = weakref.WeakKeyDictionary()

    def get(self, model: nn.Module, loss_fn: LossFn, circumstances: Hashable) -> T | None:
        """What was found, or None."""
        for finding in self._findings.get(model, []):
            if finding.is_of(loss_fn) and finding.circumstances == circumstances:
                return finding.value
        return None

    def put(self, model: nn.Module, loss_fn: LossFn, circumstances: Hashable, value: T) -> None:
        """Keep it; a loss function that cannot be referred to weakly is asked about again each time."""
        try:
            reference = weakref.WeakMethod(loss_fn) if inspect.ismethod(loss_fn) else weakref.ref(loss_fn)
        except TypeError:
            return
        kept = [
            finding
            for finding in self._findings.get(model, [])
            if finding.loss_fn() is not None and not (finding.is_of(loss_fn) and finding.circumstances == circumstances)
        ]
        self._findings[model] = [*kept, _Finding(reference, circumstances, value)]


def circumstances(model: nn.Module, params: Params, inputs: Any, labels: Any) -> Hashable:
    """What is cheap to see of all that decides which operators a model runs: its modules and their modes, dtypes, axes."""
    device = next(iter(params.values())).device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    modules = tuple((type(module), module.training) for module in model.modules())
    parameters = tuple((name, p.dtype, p.device) for name, p in params.items())
    return modules, parameters, autocast, tuple((t.dtype, t.ndim) for t in tensors_of((inputs, labels)))
