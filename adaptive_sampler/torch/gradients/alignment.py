"""Alignment: how strongly each sample's gradient points along a given direction. L2RW and influence are built on it."""

import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.gradients.as_found import as_found
from adaptive_sampler.torch.gradients.forward_mode import Trust, derivative
from adaptive_sampler.torch.gradients.functional import (
    LossFn,
    Params,
    check_finite,
    cross_entropy,
    gradients,
    leaves,
    losses,
    trainable,
    unwrapped,
)
from adaptive_sampler.torch.gradients.randomness import generator_states, restore

_warned: set[str] = set()


def alignment(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    direction: Mapping[str, Tensor] | Sequence[Tensor | None] | Tensor,
    *,
    loss_fn: LossFn = cross_entropy,
) -> Tensor:
    """Per-sample ⟨∇ℓ_i, direction⟩, by one forward-mode pass: a JVP (Jacobian-vector product) of the vector of losses.

    The model runs in the mode it is in. In training mode, batch norm uses the batch's statistics, so that a sample's
    loss depends on the other samples, as in the training step itself; running statistics are not changed. Dropout draws
    the masks that the caller's next forward pass will draw, and the same holds for code that draws from Python's
    `random` or from `np.random`.

    If an operator has no forward mode, two backward passes give the same values; if it has no second derivative either,
    one backward pass per sample gives them. A warning names the operator once.

    Some operators lose the tangent without an error. So one more backward pass and one more forward-mode pass check
    whether ⟨u, Jv⟩ = ⟨Jᵀu, v⟩; if not, the slower way is taken, with a warning. This check is made on the 1st, 2nd,
    4th, 8th … batch of a model and a loss function in the same circumstances: modules, modes, switches, dtypes, and
    lengths up to a power of two.

    Args:
        model: any module; compiled and DistributedDataParallel models are run unwrapped and uncompiled.
        inputs: (batch, …) tensor; a tuple is passed as positional arguments, a mapping as keyword arguments.
        labels: whatever `loss_fn` takes; (batch,) int64 classes for the default.
        direction: one tensor per trainable parameter, in its shape: a mapping by name, or a sequence in the order of
            `model.parameters()` without those that do not require grad; or all of them in one flat (parameters,)
            tensor. A missing name or None counts as zero.
        loss_fn: (model output, labels) -> (batch,) losses.

    Returns:
        (batch,) on the model's device, in the losses' dtype: loss per unit of `direction`.

    Raises:
        InvalidValue: the model has no trainable parameters, is or holds a module of TorchScript or a dynamically
            quantised one, or is sharded; `direction` does not fit the parameters; the loss is not per-sample, or uses a
            parameter by a reference of its own; a label is beyond the classes; the model writes to a parameter; or a
            value is not finite.
    """
    model = unwrapped(model)
    params = trainable(model)
    tangents = _as_params(direction, params)
    with as_found(model):
        return check_finite(along(model, params, tangents, inputs, labels, loss_fn), "⟨∇ℓ_i, direction⟩")


def along(model: nn.Module, params: Params, tangents: Params, inputs: Any, labels: Any, loss_fn: LossFn) -> Tensor:
    """`alignment` without its checks, and without restoring state: for callers that are inside `as_found`."""
    before = generator_states(model)
    trust = Trust(model, params, inputs, labels, loss_fn)
    right = trust.known
    try:
        if right is None:
            right = trust.ask()
            restore(before)
            if right is False:
                _warn_of_loss(model)
        if right:
            return derivative(model, params, tangents, inputs, labels, loss_fn)
    except NotImplementedError as error:
        _warn_once(_operator(error))
        trust.lose()
        restore(before)  # the slower way must draw the same dropout masks
    return _backward_mode(model, params, tangents, inputs, labels, loss_fn)


def _backward_mode(
    model: nn.Module, params: Params, tangents: Params, inputs: Any, labels: Any, loss_fn: LossFn
) -> Tensor:
    """(batch,) ⟨∇ℓ_i, tangents⟩ by backward passes. Where a loss is not finite, the value is that loss."""
    theta = leaves(params)
    loss = losses(model, theta, inputs, labels, loss_fn)
    wrong = ~torch.isfinite(loss.detach())
    if bool(wrong.any()):
        return torch.where(wrong, loss.detach(), 0)  # one such sample would make the others NaN in backward
    twice = _two_backwards(loss, theta, tangents)
    return _backward_each(loss, theta, tangents) if twice is None else twice


def _two_backwards(loss: Tensor, params: Params, tangents: Params) -> Tensor | None:
    """(batch,) J·v as the derivative of ⟨Jᵀu, v⟩ with respect to u; None if a backward cannot be differentiated.

    A custom backward may also lose its dependence on u without an error. ⟨Jᵀu, v⟩ is linear in u, so it must be equal
    to ⟨u, result⟩; None if it is not.
    """
    weights = torch.linspace(1.0, 2.0, len(loss), device=loss.device, dtype=loss.dtype).requires_grad_()
    try:
        pulled = torch.autograd.grad(
            loss, list(params.values()), weights, create_graph=True, retain_graph=True, allow_unused=True
        )
        terms = [(g * t).sum() for g, t in zip(pulled, tangents.values(), strict=True) if g is not None]
        if not terms:
            return torch.zeros_like(loss)
        total = torch.stack(terms).sum()
        (result,) = torch.autograd.grad(total, weights, retain_graph=True)
    except RuntimeError:
        return None
    size = (weights * result).abs().sum() + torch.stack(terms).abs().sum()
    slack = size * torch.finfo(loss.dtype).eps ** 0.5
    return result.detach() if bool(((weights * result).sum() - total).abs() <= slack) else None


def _backward_each(loss: Tensor, params: Params, tangents: Params) -> Tensor:
    """(batch,) by one backward pass per sample: slow, but right whenever training itself works."""
    result = torch.zeros_like(loss)
    if not loss.requires_grad:
        return result
    for position in range(len(loss)):
        gradient = gradients(loss[position], params, retain_graph=True)
        result[position] = torch.stack([(g * tangents[name]).sum() for name, g in gradient.items()]).sum()
    return result.detach()


def _as_params(direction: Mapping[str, Tensor] | Sequence[Tensor | None] | Tensor, params: Params) -> Params:
    """The direction by name, in the parameters' shapes, dtypes and devices. Raises `InvalidValue` if it does not fit."""
    given: dict[str, Tensor | None]
    if isinstance(direction, Mapping):
        unknown = [name for name in direction if name not in params]
        if unknown:
            raise InvalidValue(
                f"direction names {unknown[0]!r}, which is no trainable parameter: use one of {list(params)[:8]}"
            )
        given = {name: direction.get(name) for name in params}
    else:
        parts = _split(direction, params) if isinstance(direction, Tensor) else list(direction)
        if len(parts) != len(params):
            raise InvalidValue(
                f"direction has {len(parts)} tensors for {len(params)} trainable parameters: give one each, in the "
                "order of model.parameters() among those that require grad"
            )
        given = dict(zip(params, parts, strict=True))
    return {name: _fitted(name, given[name], p) for name, p in params.items()}


def _split(flat: Tensor, params: Params) -> list[Tensor]:
    """A flat direction, (parameters,), as one tensor per parameter."""
    sizes = [p.numel() for p in params.values()]
    if flat.shape != (sum(sizes),):
        raise InvalidValue(
            f"direction has shape {tuple(flat.shape)}: as one tensor it must be flat, ({sum(sizes)},), one number per "
            "trainable parameter; or give one tensor per parameter"
        )
    return [part.view_as(p) for part, p in zip(torch.split(flat, sizes), params.values(), strict=True)]


def _fitted(name: str, tangent: Tensor | None, parameter: Tensor) -> Tensor:
    """The direction of one parameter, zeros for None, on its device and in its dtype."""
    if tangent is None:
        return torch.zeros_like(parameter)
    if tangent.shape != parameter.shape:
        raise InvalidValue(
            f"direction for {name!r} has shape {tuple(tangent.shape)}: it must be {tuple(parameter.shape)}, "
            "the parameter's own"
        )
    return tangent.detach().to(parameter)


def _operator(error: NotImplementedError) -> str:
    """The name of the operator that has no forward mode.

    For torch's own operators the message has it; the name of a custom autograd.Function is found in the traceback. Any
    other error is raised again.
    """
    words = str(error).split()
    if "with" in words and str(error).startswith("Trying to use forward AD with"):
        return words[words.index("with") + 1]
    trace: TracebackType | None = error.__traceback__
    found = ""
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("cls")
        if trace.tb_frame.f_code.co_name == "apply" and isinstance(owner, type):
            found = owner.__name__
        trace = trace.tb_next
    if not found:
        raise error  # not about forward mode: it comes from the user's code
    return found


def _warn_of_loss(model: nn.Module) -> None:
    warnings.warn(
        f"forward mode through {type(model).__name__} and its loss does not give the gradient that backward gives: an "
        "operator lost the tangent without raising, or torch.no_grad stops a gradient inside the model; alignments "
        "through it take two backward passes, or one a sample, instead of one forward pass (training's own values)",
        stacklevel=4,
    )


def _warn_once(operator: str) -> None:
    if operator in _warned:
        return
    _warned.add(operator)
    warnings.warn(
        f"{operator} has no forward-mode derivative: alignments through it take two backward passes instead of one "
        "forward pass (the same values); a custom autograd.Function gains it with a jvp staticmethod",
        stacklevel=4,
    )
