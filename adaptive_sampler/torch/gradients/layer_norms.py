"""Per-sample gradient norms of a layer, from its input and its output's gradient, mostly without forming gradients."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_sampler.torch.gradients.convolved import Convolved
from adaptive_sampler.torch.gradients.norm_parts import Outer, Rows, Whole

Part = Outer | Rows | Convolved | Whole
# (layer, its input, its output's gradient, names of the wanted parameters) -> the gradient of each wanted parameter
Rule = Callable[[Any, Tensor, Tensor, set[str]], dict[str, Part]]


def squared_norms(parts: list[Part]) -> Tensor:
    """(batch,) ‖Σ parts‖² of one parameter; there are several parts if it was used several times (tied weights)."""
    if len(parts) == 1:
        return parts[0].squares()
    outers = [part.outer() for part in parts if not isinstance(part, Whole)]
    if len(outers) == len(parts):
        left, right = (torch.cat(sides, -1) for sides in zip(*((o.left, o.right) for o in outers), strict=True))
        return Outer(left, right).squares()
    return torch.stack([part.whole() for part in parts]).sum(0).square().sum(1)


def rule_of(module: nn.Module) -> Rule | None:
    """The rule by which this layer's norms follow from its input and its output's gradient; None if there is no such rule.

    A subclass that overrides `forward`, or a layer with forward hooks of its own, may compute anything, so it has no
    rule.
    """
    if module._forward_hooks or module._forward_pre_hooks or getattr(module, "scale_grad_by_freq", False):
        return None
    return _RULES.get(type(module).forward)


def _linear(module: nn.Linear, activation: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    """y = x Wᵀ + b at every position of (batch, …, features)."""
    left = gradient.reshape(len(gradient), -1, gradient.shape[-1]).mT
    right = activation.reshape(len(activation), -1, activation.shape[-1]).mT
    return _named(wanted, lambda: Outer(left[:, None], right[:, None]), lambda: Whole(left.sum(-1)))


def _conv(module: nn.Conv2d, activation: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    return _named(wanted, lambda: Convolved(module, activation, gradient), lambda: Whole(gradient.flatten(2).sum(-1)))


def _embedding(module: nn.Embedding, activation: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    ids = activation.flatten(1) if activation.ndim > 1 else activation[:, None]
    gradient = gradient.reshape(*ids.shape, -1)
    if module.padding_idx is not None:
        gradient = gradient * (ids != module.padding_idx)[..., None]
    return {"weight": Rows(ids, gradient, module.num_embeddings)}


def _batch_norm(module: nn.BatchNorm2d, activation: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    """In eval mode: normalised by the running statistics. Torch's own backward, of one sample with batch · channels channels."""
    assert module.running_mean is not None
    assert module.running_var is not None
    batch, channels = gradient.shape[:2]
    flat = (t.reshape(1, batch * channels, -1) for t in (gradient, activation))
    mean, var = (t.to(activation.dtype).repeat(batch) for t in (module.running_mean, module.running_var))
    _, weight, bias = torch.ops.aten.native_batch_norm_backward(
        *flat, torch.ones_like(mean), mean, var, None, None, False, module.eps, [False, True, True]
    )
    return _named(wanted, lambda: Whole(weight.view(batch, channels)), lambda: Whole(bias.view(batch, channels)))


def _group_norm(module: nn.GroupNorm, activation: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    return _channel_affine(F.group_norm(activation, module.num_groups, eps=module.eps), gradient, wanted)


def _channel_affine(normal: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    """The gradients of a norm layer's weight and bias, which have one entry per channel; `normal`: the normalised input."""
    places = tuple(range(2, gradient.ndim))
    return _named(
        wanted,
        lambda: Whole((gradient * normal).sum(places) if places else gradient * normal),
        lambda: Whole(gradient.sum(places) if places else gradient),
    )


def _layer_norm(module: nn.LayerNorm, activation: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    return _feature_affine(
        F.layer_norm(activation, module.normalized_shape, eps=module.eps),
        gradient,
        wanted,
        len(module.normalized_shape),
    )


def _rms_norm(module: nn.RMSNorm, activation: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    shape = list(module.normalized_shape)
    return _feature_affine(F.rms_norm(activation, shape, eps=module.eps), gradient, wanted, len(shape))


def _feature_affine(normal: Tensor, gradient: Tensor, wanted: set[str], dims: int) -> dict[str, Part]:
    """The gradients of a norm layer's weight and bias over the last `dims` axes; `normal`: the normalised input."""

    def summed(values: Tensor) -> Whole:
        features = values[0, ...].ndim - dims
        places = tuple(range(1, 1 + features))
        return Whole((values.sum(places) if places else values).flatten(1))

    return _named(wanted, lambda: summed(gradient * normal), lambda: summed(gradient))


def _named(wanted: set[str], weight: Callable[[], Part], bias: Callable[[], Part]) -> dict[str, Part]:
    """The gradients of the wanted parameters only, so that a frozen or parametrized weight costs nothing."""
    made: dict[str, Callable[[], Part]] = {"weight": weight, "bias": bias}
    return {name: made[name]() for name in made if name in wanted}


# By the forward function, so that a subclass with its own forward does not get its parent's rule.
_RULES: dict[Callable[..., Any], Rule] = {
    nn.Linear.forward: _linear,
    nn.Conv1d.forward: _conv,
    nn.Conv2d.forward: _conv,
    nn.Conv3d.forward: _conv,
    nn.Embedding.forward: _embedding,
    nn.BatchNorm2d.forward: _batch_norm,
    nn.SyncBatchNorm.forward: _batch_norm,
    nn.GroupNorm.forward: _group_norm,
    nn.LayerNorm.forward: _layer_norm,
    nn.RMSNorm.forward: _rms_norm,
}
