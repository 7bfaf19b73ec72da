"""The per-sample gradient of a convolution's kernel, from its input and its output's gradient, and its squared norms."""

from dataclasses import dataclass
from functools import reduce
from math import prod

import torch
import torch.nn.functional as F
import torch.nn.grad
from torch import Tensor, nn

from adaptive_sampler.torch.gradients.norm_parts import Outer

_AT_ONCE = 1 << 20  # bytes of gradients that are formed at once on a CPU, so that they are squared while in its cache
_FORMED = {1: torch.nn.grad.conv1d_weight, 2: torch.nn.grad.conv2d_weight, 3: torch.nn.grad.conv3d_weight}


@dataclass(frozen=True, slots=True)
class Convolved:
    """A per-sample gradient Σ_t left_t ⊗ patch_t, as Conv has it: the patch is what the kernel covers at place t."""

    module: nn.Conv2d
    activation: Tensor  # (batch, channels, pixels…)
    gradient: Tensor  # (batch, out, places…), the output's gradient

    def squares(self) -> Tensor:
        """(batch,) squared norms, by that of three equivalent ways that takes the fewest multiplications.

        Two are those of `Outer`: products of patches, and forming the gradient. The third takes ⟨patch_t, patch_t'⟩ from the
        products of pixels, of which it is a sum: pixels²·channels + places²·out multiplications, without a copy of patches.
        """
        module = self.module
        kernel, groups = prod(module.kernel_size), module.groups
        out, channels = module.out_channels // groups, module.in_channels // groups
        places = prod(self.gradient.shape[2:])
        pixels = prod(
            (length - 1) * step + (size - 1) * gap + 1
            for length, size, step, gap in zip(self.gradient.shape[2:], *self._spans(), strict=True)
        )
        formed, patches = places * out * channels * kernel, places**2 * (channels * kernel + out)
        if pixels**2 * channels + places**2 * out < min(formed, patches):
            return self.by_pixels()
        # On a GPU, one product of copied patches launches few kernels; a CPU is faster at convolving, without the copies.
        return self.outer().squares() if patches <= formed or self.gradient.device.type != "cpu" else self.by_forming()

    def outer(self) -> Outer:
        """The same gradient as outer products with copied patches."""
        batch, groups = len(self.gradient), self.module.groups
        patches, dims = self._padded(self.activation), len(self.module.kernel_size)
        for dim, (size, step, gap) in enumerate(zip(*self._spans(), strict=True), start=2):
            patches = patches.unfold(dim, (size - 1) * gap + 1, step)[..., ::gap]
        patches = patches.permute(0, 1, *range(2 + dims, 2 + 2 * dims), *range(2, 2 + dims))
        left = self._left()
        return Outer(left, patches.reshape(batch, groups, -1, left.shape[-1]))

    def whole(self) -> Tensor:
        """The gradients themselves, (batch, parameters)."""
        return self.outer().whole()

    def by_pixels(self) -> Tensor:
        """(batch,) from the products of each two pixels, summed as the kernel moves over both, one axis after the other."""
        image, left = self._padded(self.activation), self._left()
        pixels = image.reshape(*left.shape[:2], -1, prod(image.shape[2:]))
        dims = image.ndim - 2
        products = (pixels.mT @ pixels).view(*left.shape[:2], *image.shape[2:], *image.shape[2:])
        places = self.gradient.shape[2:]
        for axis, (length, size, step, gap) in enumerate(zip(places, *self._spans(), strict=True), start=2):
            ends = [(start, start + (length - 1) * step + 1) for start in range(0, size * gap, gap)]
            cuts = [(slice(None),) * axis + (slice(*end, step),) for end in ends]
            both = [cut + (slice(None),) * (dims - 1) + cut[-1:] for cut in cuts]
            products = reduce(torch.add, [products[each] for each in both])
        return ((left.mT @ left) * products.reshape(*left.shape[:2], *left.shape[-1:] * 2)).sum((1, 2, 3))

    def by_forming(self) -> Tensor:
        """(batch,) from the gradients, a few samples at a time: each is a group of a convolution of them all."""
        module, weight = self.module, self.module.weight
        form = _FORMED[len(module.kernel_size)]
        found, some = [], max(1, _AT_ONCE // (weight.numel() * self.gradient.element_size()))
        for start in range(0, len(self.gradient), some):
            gradient, image = self.gradient[start : start + some], self.activation[start : start + some]
            number, image = len(image), self._padded(image)
            formed = form(  # type: ignore[no-untyped-call]  # untyped in torch
                image.reshape(1, -1, *image.shape[2:]),
                (number * len(weight), *weight.shape[1:]),
                gradient.reshape(1, -1, *gradient.shape[2:]),
                stride=module.stride,
                dilation=module.dilation,
                groups=number * module.groups,
            )
            found.append(formed.view(number, -1).square().sum(1))
        return torch.cat(found)

    def _spans(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Size, step and gap of the kernel, each along every axis."""
        return self.module.kernel_size, self.module.stride, self.module.dilation

    def _left(self) -> Tensor:
        """(batch, groups, out, places): the output's gradient."""
        batch, groups = len(self.gradient), self.module.groups
        return self.gradient.reshape(batch, groups, self.module.out_channels // groups, -1)

    def _padded(self, image: Tensor) -> Tensor:
        """What the kernel moves over; the image itself, not a copy, if nothing is added to it."""
        # torch's private form of the padding, in numbers; its public attribute may be the string 'same'
        added = self.module._reversed_padding_repeated_twice
        mode = "constant" if self.module.padding_mode == "zeros" else self.module.padding_mode
        return F.pad(image, added, mode=mode) if any(added) else image
