"""Forward mode: the derivative of every sample's loss along one direction, and a check of whether it can be trusted."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from adaptive_sampler.torch.gradients.functional import (
    LossFn,
    Params,
    check_reached,
    gradients,
    leaves,
    losses,
    rounding,
)
from adaptive_sampler.torch.gradients.randomness import generator_states, restore
from adaptive_sampler.torch.gradients.remembered import Remembered, circumstances, is_time

# A parameter that had no gradient in this many batches is taken for one that the loss does not use.
_LOOKS = 4
# The relative difference of ⟨u, Jv⟩ that is still taken for rounding. The terms of ⟨u, Jv⟩ are positive on average, so
# the errors of half precision cancel: they stay below 5e-4 in nets with 150 parameter tensors, and one block of such a
# net that loses its tangent makes a difference of 1e-2.
_SLACK = 5e-3


@dataclass(slots=True)
class _Standing:
    """What earlier batches have shown of forward mode, for one model, loss function and circumstances."""

    # Batches in which forward mode was right; from _LOOKS on it is checked only now and then. −1: it was wrong.
    looks: int = 0
    uses: int = 0  # batches so far


_standings: Remembered[_Standing] = Remembered()


def derivative(model: nn.Module, params: Params, tangents: Params, inputs: Any, labels: Any, loss_fn: LossFn) -> Tensor:
    """(batch,) J·v by one forward-mode pass, with v = `tangents`.

    Raises `NotImplementedError` if an operator has no forward mode, and says so.
    """
    with torch.no_grad(), _as_backward_has_it(model), forward_ad.dual_level():
        dual = forward_ad.make_dual
        duals = {name: dual(p, tangents[name]) for name, p in params.items()}  # type: ignore[no-untyped-call]  # untyped in torch
        out = losses(model, duals, inputs, labels, loss_fn)
        loss, tangent = forward_ad.unpack_dual(out)  # type: ignore[no-untyped-call]  # untyped in torch
        return torch.zeros_like(loss) if tangent is None else tangent.clone()


class Trust:
    """Tells whether forward mode gives the derivative that backward gives, for one model and loss as they are now.

    It may not, because an operator loses a tangent without raising (a custom operator with its own backward), or
    because `torch.no_grad` inside the model stops a gradient that forward mode lets through.
    """

    def __init__(self, model: nn.Module, params: Params, inputs: Any, labels: Any, loss_fn: LossFn) -> None:
        self._model, self._params, self._loss_fn = model, params, loss_fn
        self._inputs, self._labels = inputs, labels
        seen = circumstances(model, params, inputs, labels)
        self._standing = _standings.get(model, loss_fn, seen) or _standings.put(model, loss_fn, seen, _Standing())
        self._standing.uses += 1

    @property
    def known(self) -> bool | None:
        """What earlier batches have shown; None if that is not enough, or if it is time to check again."""
        looks = self._standing.looks
        return None if 0 <= looks < _LOOKS or (looks > 0 and is_time(self._standing.uses)) else looks > 0

    def lose(self) -> None:
        """Remember that forward mode must not be used again."""
        self._standing.looks = -1

    def ask(self) -> bool | None:
        """Check ⟨u, J v⟩ = ⟨Jᵀ u, v⟩ on this batch, by one backward and one forward-mode pass; None if it cannot be shown.

        v is not the caller's direction, which may be zero exactly where a tangent is lost; v follows Jᵀ u. A parameter
        that is all zero, as an adapter's is before its first step, would hide what comes before it, so small random
        values take its place. Both passes draw the same dropout masks, which are those of the caller's next pass.
        """
        before = generator_states(self._model)
        near = _nowhere_zero(self._params)
        theta = leaves(near)
        loss = losses(self._model, theta, self._inputs, self._labels, self._loss_fn)
        check_reached(self._model, loss)
        # all above zero, so that samples do not cancel one another; unequal, so that samples cannot be exchanged
        # unnoticed
        u = torch.rand(loss.shape, generator=_generator(loss.device), device=loss.device, dtype=loss.dtype) + 1
        pulled = gradients((u * loss).sum(), theta)
        coarse = rounding(self._params, loss)
        del loss  # frees its graph
        along = _balanced(pulled, coarse)
        if along is None:
            return None
        restore(before)
        terms = u * derivative(self._model, near, along, self._inputs, self._labels, self._loss_fn)
        wanted = torch.stack([_wide(pulled[name] * v).sum() for name, v in along.items()]).sum()
        found, size = _wide(terms).sum(), _wide(terms).abs().sum() + wanted
        if not bool(torch.isfinite(size)):
            return None
        restore(before)
        without = {name for name, g in pulled.items() if not bool(g.any())}
        if bool((found - wanted).abs() > min(coarse, _SLACK) * size) or self._passes(near, without, wanted):
            self.lose()
            return False
        self._standing.looks = self._standing.looks + 1 if without else _LOOKS
        return True

    def _passes(self, near: Params, without: set[str], wanted: Tensor) -> bool:
        """Whether forward mode lets something through from parameters that have no gradient in backward.

        The direction has a length of about 1 in each of these parameters. A result that is no more than rounding counts
        as nothing.
        """
        if not without:
            return False
        along = {
            name: _random(p) / max(p.numel(), 1) ** 0.5 if name in without else torch.zeros_like(p)
            for name, p in near.items()
        }
        passed = derivative(self._model, near, along, self._inputs, self._labels, self._loss_fn)
        least = torch.finfo(passed.dtype).eps * (wanted + 10 * len(passed))
        return bool(_wide(passed).abs().sum() > least)


def _nowhere_zero(params: Params) -> Params:
    """The parameters, but small random ones in place of those that are all zero: they would hide what comes before them."""
    return {name: p if bool(p.any()) else _random(p) / 100 for name, p in params.items()}


def _random(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=_generator(like.device), device=like.device).to(like.dtype)


def _balanced(pulled: Params, coarse: float) -> Params | None:
    """A direction v in which each parameter's part of ⟨Jᵀ u, v⟩ is about equally large, so that none is lost in rounding.

    `pulled`: Jᵀ u. `coarse`: the relative size of rounding. A gradient shorter than √coarse of the longest may be
    rounding itself, and its part stays smaller. None if there is no gradient, or if one is not finite.
    """
    lengths = {name: _wide(torch.linalg.vector_norm(g)) for name, g in pulled.items()}
    longest = torch.stack(list(lengths.values())).max()
    if not bool(torch.isfinite(longest)) or not bool(longest > 0):
        return None
    units = {name: g / lengths[name].clamp(min=torch.finfo(lengths[name].dtype).tiny) for name, g in pulled.items()}
    return {name: unit * (longest / lengths[name].clamp(min=coarse**0.5 * longest)) for name, unit in units.items()}


def _wide(values: Tensor) -> Tensor:
    """The values in float32 or a wider dtype."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _generator(device: torch.device) -> torch.Generator:
    """A generator of our own, so that nothing is drawn from the caller's."""
    return torch.Generator(device).manual_seed(0)


@contextlib.contextmanager
def _as_backward_has_it(model: nn.Module) -> Iterator[None]:
    """Make forward mode agree with embeddings whose backward is not the true derivative.

    Backward gives no gradient to the row `padding_idx`; so that row gets no tangent. With `scale_grad_by_freq` backward
    scales the gradients by frequency; forward mode cannot, so this raises `NotImplementedError`.
    """
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    if any(m.scale_grad_by_freq for m in embeddings):
        raise NotImplementedError("Trying to use forward AD with Embedding(scale_grad_by_freq=True)")
    handles = [m.register_forward_hook(_no_padding_tangent) for m in embeddings if m.padding_idx is not None]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _no_padding_tangent(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
    """A forward hook that removes the tangent of an embedding's output for `padding_idx`."""
    primal = forward_ad.unpack_dual(out).primal  # type: ignore[no-untyped-call]  # untyped in torch
    return torch.where((args[0] == module.padding_idx)[..., None], primal, out)
