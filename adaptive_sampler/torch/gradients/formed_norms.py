"""Per-sample gradient norms by forming each sample's gradient: for parameters that no layer's rule covers."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.torch.data.batches import batch_size, map_tensors, part
from adaptive_sampler.torch.gradients.functional import (
    LossFn,
    Params,
    cross_entropy,
    followed,
    gradients,
    leaves,
    losses,
)

_AT_ONCE = 128  # samples whose gradients are held at once


def formed_squares(
    model: nn.Module, params: Params, names: list[str], inputs: Any, labels: Any, loss_fn: LossFn
) -> Tensor:
    """(batch,) squared gradient norms over the parameters `names`, by vmap(grad), or sample by sample if vmap fails.

    However long the batch, the gradients of no more than 128 samples are held at once.
    """
    sought = {name: params[name] for name in names}
    rest = {name: p for name, p in params.items() if name not in sought}
    cuts = [(start, start + _AT_ONCE) for start in range(0, batch_size(inputs), _AT_ONCE)]
    return torch.cat([_formed(model, sought, rest, part(inputs, *cut), part(labels, *cut), loss_fn) for cut in cuts])


def _formed(model: nn.Module, sought: Params, rest: Params, inputs: Any, labels: Any, loss_fn: LossFn) -> Tensor:
    """(batch,) squared norms over `sought`; `rest`: the other parameters, as constants."""
    try:
        return _by_vmap(model, sought, rest, inputs, labels, loss_fn)
    except (RuntimeError, ValueError, NotImplementedError, TypeError):
        # vmap cannot run control flow on values, an operator without a batching rule, or a custom function of the old
        # style; the loop can. If the error was the caller's own, the loop raises it again.
        return _one_by_one(model, sought, rest, inputs, labels, loss_fn)


def _by_vmap(model: nn.Module, sought: Params, rest: Params, inputs: Any, labels: Any, loss_fn: LossFn) -> Tensor:
    """(batch,) squared norms over `sought`, by vmap(grad); `rest`: the other parameters, as constants."""

    def loss_of(theta: Params, one_input: Any, one_label: Any) -> Tensor:
        single = map_tensors(lambda tensor: tensor[None], (one_input, one_label))

        def loss_after(out: Any) -> Tensor:
            return loss_fn(getattr(out, "logits", out) if loss_fn is cross_entropy else out, single[1]).squeeze(0)

        return followed(model, {**rest, **theta}, single[0], loss_after)

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "There is a performance drop because we have not yet implemented the batching"
        )
        formed = torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0, 0))(sought, inputs, labels)
    return sum_of_squares(list(formed.values()))


def _one_by_one(model: nn.Module, sought: Params, rest: Params, inputs: Any, labels: Any, loss_fn: LossFn) -> Tensor:
    """(batch,) squared norms over `sought`, by one backward pass per sample; `rest`: the other parameters, as constants."""
    found = []
    for position in range(batch_size(inputs)):
        theta = leaves(sought)
        one_input, one_label = (
            map_tensors(lambda tensor: tensor[position : position + 1], part)  # noqa: B023 - used up within this iteration
            for part in (inputs, labels)
        )
        loss = losses(model, {**rest, **theta}, one_input, one_label, loss_fn)
        found.append(sum_of_squares([g[None] for g in gradients(loss[0], theta).values()]))
    return torch.cat(found)


def sum_of_squares(gradients: list[Tensor]) -> Tensor:
    """(batch,) sums of squares over all `gradients`, each (batch, …), in float32 or a wider dtype."""
    wide = (g.flatten(1).to(torch.promote_types(g.dtype, torch.float32)) for g in gradients)
    return torch.stack([g.square().sum(1) for g in wide]).sum(0)
