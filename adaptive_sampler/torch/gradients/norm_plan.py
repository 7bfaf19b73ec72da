"""Which parameters' norms can be had without their gradients: found by watching how a forward pass uses them."""

import contextlib
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from adaptive_sampler.torch.data.batches import batch_size, map_tensors, tensors_of
from adaptive_sampler.torch.gradients.functional import LossFn, Params, check_reached, losses
from adaptive_sampler.torch.gradients.layer_norms import rule_of

# what a model calls to find an order for its samples; packing sequences does so inside
_SORTS = {torch.sort, torch.Tensor.sort, torch.argsort, torch.Tensor.argsort, torch.topk, torch.Tensor.topk}

Layers = dict[nn.Module, dict[str, str]]
"""Layer -> its own name of a parameter -> the model's."""


class LayerWatch(contextlib.ExitStack):
    """Watch one forward pass: how often it uses each parameter, and which uses are calls of a layer with a rule.

    A parameter is covered where every use of it is a call of a layer that has a rule, and that layer's input and output
    have the batch as leading axis: a functional use elsewhere, a fused operator, a sequence-first layout or an input
    without a batch would otherwise go unseen.
    """

    def __init__(self, params: Params, layers: Layers, size: int) -> None:
        super().__init__()
        self._layers, self._size = layers, size
        self._calls: Counter[nn.Module] = Counter()
        self._uses = _CountUses(params, size)
        self.odd: set[nn.Module] = set()

    def __enter__(self) -> "LayerWatch":
        super().__enter__()
        for module in self._layers:
            self.callback(module.register_forward_hook(self._called, with_kwargs=True).remove)
        self.enter_context(self._uses)
        return self

    def _called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        self._calls[module] += 1
        if any(tensor.ndim == 0 or len(tensor) != self._size for tensor in tensors_of((args, kwargs, out))):
            self.odd.add(module)

    @property
    def sorts(self) -> bool:
        """Whether something as long as the batch was sorted: the samples may have been rearranged by it."""
        return self._uses.sorts

    def covered(self) -> dict[str, int]:
        """Covered parameters and how often each was used."""
        explained: Counter[str] = Counter()
        for module, own in self._layers.items():
            if module not in self.odd:
                for name in own.values():
                    explained[name] += self._calls[module]
        return {name: uses for name, uses in self._uses.uses.items() if uses == explained[name]}


def batch_first(model: nn.Module, params: Params, inputs: Any, labels: Any, loss_fn: LossFn, chunk_size: int) -> Layers:
    """Layers that have a rule and are called with a leading axis that follows the batch, where they are called at all.

    Two to four samples are run, a number that no chunk has: an axis that is as long in both is not the batch.
    """
    size = batch_size(inputs)
    few = next(n for n in (2, 3, 4) if n not in (min(chunk_size, size), size % chunk_size))
    some = torch.arange(few) % size
    inputs, labels = (map_tensors(lambda t: t[some.to(t.device)] if t.ndim else t, part) for part in (inputs, labels))
    layers = _owned(model, params)
    with LayerWatch(params, layers, few) as seen:
        loss = losses(model, params, inputs, labels, loss_fn)
    if loss.requires_grad:  # though all that was given is constant
        check_reached(model, loss)
    return {module: own for module, own in layers.items() if module not in seen.odd}


def _owned(model: nn.Module, params: Params) -> Layers:
    """Layers with a rule and what they own of the trainable parameters."""
    names = {id(parameter): name for name, parameter in model.named_parameters() if name in params}
    found: Layers = {}
    for module in model.modules():
        if rule_of(module) is not None:
            found[module] = {
                local: names[id(parameter)]
                for local, parameter in module._parameters.items()
                if parameter is not None and id(parameter) in names
            }
    return {module: own for module, own in found.items() if own}


class _CountUses(TorchFunctionMode):
    """Count the operations that take a parameter and give a tensor (its shape or dtype is no use of it), and see sorts."""

    def __init__(self, params: Params, size: int) -> None:
        super().__init__()
        self._size, self.sorts = size, False
        self._names = {id(parameter): name for name, parameter in params.items()}
        self.uses: Counter[str] = Counter(dict.fromkeys(params, 0))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _SORTS:
            self.sorts = self.sorts or any(tensor.shape == (self._size,) for tensor in tensors_of(out))
        if any(True for _ in tensors_of(out)):
            for tensor in tensors_of((args, kwargs or {})):
                if id(tensor) in self._names:
                    self.uses[self._names[id(tensor)]] += 1
        return out
