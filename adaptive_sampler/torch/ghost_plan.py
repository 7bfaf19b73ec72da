"""Which parameters' norms can be had without their gradients: found by watching one sample pass through the model."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adaptive_sampler.torch.functional import LossFn, Params, losses, tensors_of
from adaptive_sampler.torch.ghost_norms import rule_of


@dataclass(frozen=True, slots=True)
class GhostPlan:
    """What one sample alone has shown of a model."""

    layers: dict[nn.Module, dict[str, str]]  # layer -> its own name of a covered parameter -> the model's
    uses: Counter[str]  # how often one forward pass uses each parameter
    loose: list[str]  # parameters that no rule covers
    alone: Tensor  # () the sample's loss
    slack: float  # what rounding may change of a loss, relative

    def alike(self, batched: Tensor) -> bool:
        """Whether the sample's loss is the same in a batch as alone: a model that mixes samples shows here."""
        close = (batched - self.alone).abs() <= self.slack * (1 + self.alone.abs())
        return bool(close) or not bool(torch.isfinite(self.alone))

    def without_layers(self, params: Params) -> "GhostPlan":
        """The same with every parameter loose."""
        return replace(self, layers={}, loose=list(params))


def make_plan(model: nn.Module, params: Params, inputs: Any, labels: Any, loss_fn: LossFn) -> GhostPlan:
    """Run one sample (a batch of 1) and decide for each parameter.

    A parameter is covered where every use of it is a call of a layer that has a rule, and that layer's input and
    output have the batch as leading axis: a functional use elsewhere, a fused operator or a sequence-first layout would
    otherwise go unseen.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters() if name in params}
    owned = _owned(model, names)
    calls: Counter[nn.Module] = Counter()
    odd: set[nn.Module] = set()

    def watch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        calls[module] += 1
        if any(tensor.ndim == 0 or len(tensor) != 1 for tensor in tensors_of((args, kwargs, out))):
            odd.add(module)

    handles = [module.register_forward_hook(watch, with_kwargs=True) for module in owned]
    try:
        with torch.no_grad(), _CountUses(params) as seen:
            first = losses(model, params, inputs, labels, loss_fn)[0]
    finally:
        for handle in handles:
            handle.remove()
    return _decide(owned, params, calls, odd, seen.uses, first)


def _owned(model: nn.Module, names: dict[int, str]) -> dict[nn.Module, dict[str, str]]:
    """Layers with a rule and what they own of the trainable parameters."""
    found: dict[nn.Module, dict[str, str]] = {}
    for module in model.modules():
        if rule_of(module) is not None:
            found[module] = {
                local: names[id(parameter)]
                for local, parameter in module._parameters.items()
                if parameter is not None and id(parameter) in names
            }
    return {module: own for module, own in found.items() if own}


def _decide(
    owned: dict[nn.Module, dict[str, str]],
    params: Params,
    calls: Counter[nn.Module],
    odd: set[nn.Module],
    uses: Counter[str],
    first: Tensor,
) -> GhostPlan:
    explained: Counter[str] = Counter()
    for module, own in owned.items():
        if module not in odd:
            for name in own.values():
                explained[name] += calls[module]
    covered = {name for name in params if explained[name] == uses[name]}
    layers = {
        module: {local: name for local, name in own.items() if name in covered}
        for module, own in owned.items()
        if calls[module]
    }
    return GhostPlan(
        layers={module: own for module, own in layers.items() if own},
        uses=uses,
        loose=[name for name in params if name not in covered],
        alone=first,
        slack=_slack(params, first),
    )


def _slack(params: Params, loss: Tensor) -> float:
    half = any(torch.finfo(p.dtype).bits == 16 for p in params.values())
    if half or torch.is_autocast_enabled(loss.device.type):
        return 0.05
    return float(10 * torch.finfo(loss.dtype).eps ** 0.5)


class _CountUses(TorchFunctionMode):
    """Count the operations that take a parameter and give a tensor (its shape or dtype is no use of it)."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self._names = {id(parameter): name for name, parameter in params.items()}
        self.uses: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(True for _ in tensors_of(out)):
            for tensor in tensors_of((args, kwargs or {})):
                if id(tensor) in self._names:
                    self.uses[self._names[id(tensor)]] += 1
        return out
