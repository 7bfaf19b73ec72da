"""Runs a model as a pure function of its trainable parameters, with one loss per sample."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.batches import batch_size, map_tensors, tensors_of

LossFn = Callable[[Any, Any], Tensor]
"""(model output, labels) -> (batch,): one loss per sample, in the loss's own unit."""

Params = dict[str, Tensor]
"""Trainable parameters, or one tensor shaped like each, by the names that `model.named_parameters()` gives them."""


# The modules of dynamically quantised layers: as names, because torch.ao takes long to import.
_DYNAMICALLY_QUANTISED = (
    "torch.ao.nn.quantized.dynamic",
    "torch.ao.nn.intrinsic.quantized.dynamic",
    "torch.nn.quantized.dynamic",
    "torch.nn.intrinsic.quantized.dynamic",
)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Per-sample cross entropy in nats, computed in float32 or a wider dtype.

    Args:
        logits: (batch, classes) floating.
        labels: (batch,) int64 classes, or (batch, classes) label distributions. A class of -100 is ignored: loss 0.

    Returns:
        (batch,) float32 (float64 for float64 logits).
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return nn.functional.cross_entropy(wide, labels, reduction="none")


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel or DataParallel, or `model` itself.

    The wrappers are left out because their own forward prepares gradient hooks for a backward that never comes. Raises
    `InvalidValue` for a model whose per-sample gradients cannot be computed: TorchScript, dynamic quantisation,
    sharding.
    """
    while isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        model = model.module
    for name, module in model.named_modules():
        _check_module(name, module)
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "device_mesh") or type(parameter).__name__ == "FlatParameter":
            raise InvalidValue(
                f"parameter {name!r} is sharded ({type(parameter).__name__}): per-sample gradients need whole "
                "parameters; score with an unsharded copy of the model, or shard with DistributedDataParallel"
            )
    return model


def _check_module(name: str, module: nn.Module) -> None:
    """Raise `InvalidValue` for TorchScript, whose parameters cannot be replaced, and for a scale that a whole batch shares."""
    kind = type(module)
    what = f"{name!r} is a {kind.__name__}" if name else f"the model is a {kind.__name__}"
    if isinstance(module, torch.jit.ScriptModule):
        raise InvalidValue(
            f"{what} of TorchScript, which takes no parameters but its own: a gradient needs a module that runs in "
            "Python; score with the one that it was scripted or traced from"
        )
    if any(parent.__module__.startswith(_DYNAMICALLY_QUANTISED) for parent in kind.__mro__):
        raise InvalidValue(
            f"{what}, dynamically quantised by the range of its whole batch: it mixes the samples of a batch, so no "
            "sample has a gradient of its own; score with the model that it was quantised from"
        )


def trainable(model: nn.Module) -> Params:
    """The parameters that require grad, detached (they share memory); tied ones occur once.

    Raises `InvalidValue` if there are none.
    """
    found = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise InvalidValue(
            f"{type(model).__name__} has no trainable parameters: a gradient needs at least one; "
            "set requires_grad_(True) on what is to be trained"
        )
    return found


def leaves(params: Params) -> Params:
    """The same values as new autograd leaves, so that no `.grad` of the model is ever written."""
    return {name: p.detach().requires_grad_() for name, p in params.items()}


def flat(params: Params) -> Tensor:
    """All parameters in one vector, (parameters,), in float32 or a wider dtype."""
    return torch.cat([p.flatten().to(torch.promote_types(p.dtype, torch.float32)) for p in params.values()])


def shaped(vector: Tensor, params: Params) -> Params:
    """A flat vector as one tensor per parameter, in the parameters' shapes and dtypes."""
    parts = torch.split(vector, [p.numel() for p in params.values()])
    return {name: part.view_as(p).to(p.dtype) for (name, p), part in zip(params.items(), parts, strict=True)}


def gradients(loss: Tensor, theta: Params, *, create_graph: bool = False, retain_graph: bool = False) -> Params:
    """∂loss/∂theta by name, dense; zero if the loss does not depend on a parameter."""
    if not loss.requires_grad:
        return {name: torch.zeros_like(p) for name, p in theta.items()}
    found = torch.autograd.grad(
        loss,
        list(theta.values()),
        create_graph=create_graph,
        retain_graph=retain_graph or create_graph,
        allow_unused=True,
    )
    return {name: dense(g, p) for (name, p), g in zip(theta.items(), found, strict=True)}


def dense(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """The gradient of `parameter` as a dense tensor: an embedding may give a sparse one, and an unused parameter gives None."""
    if gradient is None:
        return torch.zeros_like(parameter)
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


class _Whole(nn.Module):
    """A model and the function that follows it, as one module, so that parameters are replaced in both during its call."""

    def __init__(self, model: nn.Module, then: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._then = [then]  # in a list, so that a loss that is a module does not become a part of this one

    def forward(self, *positional: Any, **keywords: Any) -> Tensor:
        return self._then[0](self.model(*positional, **keywords))


def followed(model: nn.Module, params: Params, inputs: Any, then: Callable[[Any], Tensor]) -> Tensor:
    """`then(output)` of one forward pass in which `params` take the place of the model's parameters of these names.

    All other parameters are constants. The replacement holds in `then` too, for a loss that uses the model's own
    parameters. Buffers are copies, so the model's do not change. `inputs`: a tuple or list is passed as positional
    arguments, a mapping as keyword arguments, a tensor as the only argument.
    """
    state = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    state |= {name: buffer.clone() for name, buffer in model.named_buffers()}
    positional, keywords = (inputs,), {}
    if isinstance(inputs, Mapping):
        positional, keywords = (), dict(inputs)  # type: ignore[assignment]  # above, mypy infers a tuple of one
    elif isinstance(inputs, tuple | list):
        positional = tuple(inputs)
    replaced = {f"model.{name}": tensor for name, tensor in {**state, **params}.items()}
    found: Tensor = torch.func.functional_call(_Whole(model, then), replaced, positional, keywords)
    return found


def losses(model: nn.Module, params: Params, inputs: Any, labels: Any, loss_fn: LossFn) -> Tensor:
    """(batch,) losses as a function of `params`.

    Raises `InvalidValue` if `loss_fn` does not give one loss per sample, or if the default loss gets a label beyond the
    classes.
    """
    if any(tensor.is_inference() for tensor in tensors_of((inputs, labels))):
        # autograd cannot keep a tensor that was made in inference mode, but it can keep a copy
        inputs, labels = map_tensors(torch.clone, inputs), map_tensors(torch.clone, labels)
    size = batch_size(inputs)

    def loss_of(out: Any) -> Tensor:
        if loss_fn is cross_entropy:
            out = getattr(out, "logits", out)  # Hugging Face's models return an object that holds the logits
            check_labels(out, labels)
        return loss_fn(out, labels)

    loss = followed(model, params, inputs, loss_of)
    if not isinstance(loss, Tensor) or loss.shape != (size,):
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise InvalidValue(
            f"loss_fn gave {shape} for a batch of {size}: it must give one loss per sample, ({size},); "
            "use reduction='none' and reduce every axis but the first"
        )
    return loss


def check_reached(model: nn.Module, loss: Tensor) -> None:
    """Raise `InvalidValue` if the loss uses a trainable parameter that was not replaced: its gradient would be missing."""
    own = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    seen, ahead = set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = own.get(id(getattr(node, "variable", None)))
        if name is not None:
            raise InvalidValue(
                f"the loss uses parameter {name!r} by a reference of its own, not through the model: its gradient would "
                "be missing; inside loss_fn or forward, take it from the module at each call, as in model.head.weight"
            )
        ahead += [following for following, _ in node.next_functions]


def check_labels(logits: Any, labels: Any) -> None:
    """Raise `InvalidValue` for a label beyond the logits' classes: on a GPU, the loss itself would end the process."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not isinstance(labels, Tensor):
        raise InvalidValue(
            f"the default loss needs (batch, classes) logits and (batch,) labels, got "
            f"{[tuple(t.shape) for t in tensors_of((logits, labels))]}: give loss_fn=(output, labels) -> (batch,)"
        )
    if labels.is_floating_point() or not labels.numel():
        return
    wrong = ((labels < 0) & (labels != -100)) | (labels >= logits.shape[1])
    if bool(wrong.any()):
        position = int(wrong.nonzero()[0, 0])
        raise InvalidValue(
            f"label {int(labels[position])} at position {position} is beyond the model's {logits.shape[1]} classes: "
            f"labels must be 0 … {logits.shape[1] - 1} (or -100, ignored); map them first"
        )


def check_finite(values: Tensor, what: str) -> Tensor:
    """`values` themselves. Raises `InvalidValue`, naming the first value that is not finite, if there is one."""
    wrong = ~torch.isfinite(values)
    if bool(wrong.any()):
        position = int(wrong.flatten().nonzero()[0, 0])
        where = f" at position {position}" if values.ndim else ""
        raise InvalidValue(
            f"{what}{where} is {float(values.flatten()[position])}: gradients must be finite; look at the inputs and loss "
            "there, clip gradients or lower the learning rate, or use bfloat16 rather than float16"
        )
    return values


def rounding(params: Params, loss: Tensor) -> float:
    """The relative difference that rounding may make between two equivalent ways to compute a loss or a derivative.

    It is √ε of the coarsest dtype that is involved.
    """
    # float32 always, because a norm layer inside the model often computes in it
    dtypes = {torch.float32, loss.dtype, *(p.dtype for p in params.values())}
    if torch.is_autocast_enabled(loss.device.type):
        dtypes.add(torch.get_autocast_dtype(loss.device.type))
    if loss.device.type == "cuda":
        dtypes.add(torch.float16)  # cuDNN's convolutions may use TensorFloat-32, which is as coarse
    return float(max(torch.finfo(dtype).eps for dtype in dtypes) ** 0.5)
