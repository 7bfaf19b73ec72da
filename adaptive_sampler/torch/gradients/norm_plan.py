"""Finds the parameters whose norms need no gradients to be formed, by watching how a forward pass uses them."""

import contextlib
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from adaptive_sampler.torch.data.batches import batch_size, map_tensors, tensors_of
from adaptive_sampler.torch.gradients.functional import LossFn, Params, check_reached, losses
from adaptive_sampler.torch.gradients.layer_norms import rule_of

# the functions by which a model may find an order for its samples; packing sequences calls one of them
_SORTS = {torch.sort, torch.Tensor.sort, torch.argsort, torch.Tensor.argsort, torch.topk, torch.Tensor.topk}

USUAL = 128  # samples in a chunk, if no more fit _MEMORY
_MEMORY = 1 << 25  # bytes of inputs and of what the model's operations put out, up to which a chunk may be longer

Layers = dict[nn.Module, dict[str, str]]
"""layer -> {the layer's own name of a parameter: the model's name of it}"""


class LayerWatch(contextlib.ExitStack):
    """Watches one forward pass: how often it uses each parameter, and which uses are calls of a layer with a rule.

    A parameter is covered if every use of it is a call of a layer that has a rule, and if that layer's input and output
    have the batch as leading axis. Anything else would go unnoticed: a functional use elsewhere, a fused operator, a
    sequence-first layout, or an input without a batch axis.
    """

    def __init__(self, params: Params, layers: Layers, size: int) -> None:
        super().__init__()
        self._layers, self._size = layers, size
        self._calls: Counter[nn.Module] = Counter()
        self._uses = _CountUses(params, size)
        self.odd: set[nn.Module] = set()  # layers with an input or output whose leading axis is not the batch

    def __enter__(self) -> "LayerWatch":
        super().__enter__()
        for module in self._layers:
            self.callback(module.register_forward_hook(self._called, with_kwargs=True).remove)
        self.enter_context(self._uses)
        return self

    def _called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """A forward hook: count the call, and note the layer if some tensor's leading axis does not have the batch's length."""
        self._calls[module] += 1
        if any(tensor.ndim == 0 or len(tensor) != self._size for tensor in tensors_of((args, kwargs, out))):
            self.odd.add(module)

    @property
    def bytes(self) -> int:
        """How many bytes the pass's operations have put out; views are counted too."""
        return self._uses.bytes

    @property
    def sorts(self) -> bool:
        """Whether something as long as the batch was sorted, so that the samples may have been rearranged."""
        return self._uses.sorts

    def covered(self) -> dict[str, int]:
        """Covered parameter -> how often it was used."""
        explained: Counter[str] = Counter()
        for module, own in self._layers.items():
            if module not in self.odd:
                for name in own.values():
                    explained[name] += self._calls[module]
        return {name: uses for name, uses in self._uses.uses.items() if uses == explained[name]}


def batch_first(
    model: nn.Module, params: Params, inputs: Any, labels: Any, loss_fn: LossFn, chunk_size: int | None
) -> tuple[Layers, int]:
    """The layers that have a rule and whose leading axis is the batch, called or not; and `chunk_size`, or what fits if it is None.

    Two to four samples are run, a number that no chunk has. So an axis that is not the batch cannot have the right
    length both here and in a chunk.
    """
    size = batch_size(inputs)
    cuts = (size,) if chunk_size is None else (min(chunk_size, size), size % chunk_size)
    few = next(n for n in (2, 3, 4) if n not in cuts)
    some = torch.arange(few) % size
    inputs, labels = (map_tensors(lambda t: t[some.to(t.device)] if t.ndim else t, part) for part in (inputs, labels))
    layers = _owned(model, params)
    with LayerWatch(params, layers, few) as seen:
        loss = losses(model, params, inputs, labels, loss_fn)
    if loss.requires_grad:  # although all parameters given are constants
        check_reached(model, loss)
    if chunk_size is None:
        most = max(USUAL, _MEMORY * few // max(seen.bytes + _bytes(inputs), 1))
        chunk_size = next(number for number in range(most, 0, -1) if size % number != few)
    return {module: own for module, own in layers.items() if module not in seen.odd}, chunk_size


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(tensors))


def _owned(model: nn.Module, params: Params) -> Layers:
    """The layers with a rule, and which of the trainable parameters each of them owns."""
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
    """Counts the operations that take a parameter and give a tensor, and all bytes that are given; notes sorts.

    Reading a shape or dtype is no use.
    """

    def __init__(self, params: Params, size: int) -> None:
        super().__init__()
        self._size, self.sorts, self.bytes = size, False, 0
        self._names = {id(parameter): name for name, parameter in params.items()}
        self.uses: Counter[str] = Counter(dict.fromkeys(params, 0))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _SORTS:
            self.sorts = self.sorts or any(tensor.shape == (self._size,) for tensor in tensors_of(out))
        if func is not torch.Tensor.detach:  # all parameters pass through it, and nothing is copied
            self.bytes += _bytes(out)
        if any(True for _ in tensors_of(out)):
            for tensor in tensors_of((args, kwargs or {})):
                if id(tensor) in self._names:
                    self.uses[self._names[id(tensor)]] += 1
        return out
