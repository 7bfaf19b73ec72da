"""Per-sample gradient norms of a layer, from its input and its output's gradient, mostly without forming gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Outer:
    """A per-sample gradient Σ_t left_t ⊗ right_t, as Linear and Conv have it: t is a position in a sequence or an image."""

    left: Tensor  # (batch, groups, out, t), the output's gradient
    right: Tensor  # (batch, groups, in, t), the input that the weight was applied to

    def squares(self) -> Tensor:
        """(batch,) squared norms, by the cheaper of two equivalent ways.

        Σ_tt' ⟨left_t, left_t'⟩⟨right_t, right_t'⟩ takes t²·(out + in) multiplications; forming the gradient takes
        t·out·in (Bu et al. 2022, Scalable and Efficient Training of Large Convolutional Neural Networks with
        Differential Privacy, section 3).
        """
        places, out, into = self.left.shape[-1], self.left.shape[-2], self.right.shape[-2]
        if places == 1:
            return (self.left.square().sum((2, 3)) * self.right.square().sum((2, 3))).sum(1)
        if places * (out + into) <= out * into:
            return ((self.left.mT @ self.left) * (self.right.mT @ self.right)).sum((1, 2, 3))
        return self.whole().square().sum(1)

    def whole(self) -> Tensor:
        """The gradients themselves, (batch, parameters)."""
        return (self.left @ self.right.mT).flatten(1)


@dataclass(frozen=True, slots=True)
class Rows:
    """A per-sample gradient that is nonzero in few rows of a (size, width) weight, as an embedding's is."""

    ids: Tensor  # (batch, t) int64, the rows
    gradients: Tensor  # (batch, t, width)
    size: int

    def squares(self) -> Tensor:
        """(batch,) squared norms: gradients of the same row are first added up within each sample."""
        batch = len(self.ids)
        place = torch.arange(batch, device=self.ids.device)[:, None] * self.size + self.ids
        rows, inverse = torch.unique(place, return_inverse=True)
        summed = self.gradients.new_zeros(len(rows), self.gradients.shape[-1])
        summed.index_add_(0, inverse.flatten(), self.gradients.flatten(0, 1))
        return self.gradients.new_zeros(batch).index_add_(0, rows // self.size, summed.square().sum(1))

    def outer(self) -> Outer:
        """The same gradient as outer products with one-hot rows, to be joined with another use of the same weight."""
        hot = F.one_hot(self.ids, self.size).to(self.gradients.dtype)
        return Outer(hot.mT[:, None], self.gradients.mT[:, None])

    def whole(self) -> Tensor:
        """The gradients themselves, (batch, parameters)."""
        return self.outer().whole()


@dataclass(frozen=True, slots=True)
class Whole:
    """A per-sample gradient that is formed, because it is small."""

    gradients: Tensor  # (batch, parameters)

    def squares(self) -> Tensor:
        """(batch,) squared norms."""
        return self.gradients.square().sum(1)

    def whole(self) -> Tensor:
        """The gradients themselves, (batch, parameters)."""
        return self.gradients


Part = Outer | Rows | Whole
# (layer, its input, its output's gradient, names of the wanted parameters) -> the gradient of each wanted parameter
Rule = Callable[[Any, Tensor, Tensor, set[str]], dict[str, Part]]


def squared_norms(parts: list[Part]) -> Tensor:
    """(batch,) ‖Σ parts‖² of one parameter; there are several parts if it was used several times (tied weights)."""
    if len(parts) == 1:
        return parts[0].squares()
    if all(isinstance(part, Outer | Rows) for part in parts):
        outers = [part.outer() if isinstance(part, Rows) else part for part in parts]
        joined = [torch.cat(sides, -1) for sides in zip(*((o.left, o.right) for o in outers), strict=True)]  # type: ignore[union-attr]  # none is Whole
        return Outer(joined[0], joined[1]).squares()
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
    """A convolution is a linear layer at every position of the image, applied to the patch at that position."""
    batch, groups = len(activation), module.groups
    left = gradient.reshape(batch, groups, -1, gradient[0, 0].numel())
    return _named(
        wanted,
        lambda: Outer(left, _patches(module, activation).reshape(batch, groups, -1, left.shape[-1])),
        lambda: Whole(left.sum(-1).flatten(1)),
    )


def _patches(module: nn.Conv2d, activation: Tensor) -> Tensor:
    """(batch, channels, kernel…, positions…): the patch that the kernel covers at each position, for 1, 2 or 3 dimensions."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    # torch's private form of the padding, in numbers; its public attribute may be the string 'same'
    patches = F.pad(activation, module._reversed_padding_repeated_twice, mode=mode)
    dims = len(module.kernel_size)
    for dim, (size, step, gap) in enumerate(
        zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
    ):
        patches = patches.unfold(dim, (size - 1) * gap + 1, step)[..., ::gap]
    return patches.permute(0, 1, *range(2 + dims, 2 + 2 * dims), *range(2, 2 + dims))


def _embedding(module: nn.Embedding, activation: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    ids = activation.flatten(1) if activation.ndim > 1 else activation[:, None]
    gradient = gradient.reshape(*ids.shape, -1)
    if module.padding_idx is not None:
        gradient = gradient * (ids != module.padding_idx)[..., None]
    return {"weight": Rows(ids, gradient, module.num_embeddings)}


def _batch_norm(module: nn.BatchNorm2d, activation: Tensor, gradient: Tensor, wanted: set[str]) -> dict[str, Part]:
    """In eval mode: normalised by the running statistics."""
    assert module.running_mean is not None
    assert module.running_var is not None
    shape = (-1, *[1] * (activation.ndim - 2))
    mean, var = (t.to(activation.dtype).view(shape) for t in (module.running_mean, module.running_var))
    normal = (activation - mean) * (var + module.eps).rsqrt()
    return _channel_affine(normal, gradient, wanted)


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
