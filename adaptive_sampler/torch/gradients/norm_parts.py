"""A layer's per-sample gradients, mostly not formed: as outer products, as few rows, or whole; and their squared norms."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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

    def outer(self) -> "Outer":
        """Itself, to be joined with another use of the same weight."""
        return self

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
