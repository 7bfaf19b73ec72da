"""GraNd: the exact norm of each sample's gradient over all trainable parameters."""

from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.batches import batch_size, map_tensors, part
from adaptive_sampler.torch.gradients.as_found import as_found
from adaptive_sampler.torch.gradients.functional import (
    LossFn,
    Params,
    check_finite,
    cross_entropy,
    trainable,
    unwrapped,
)
from adaptive_sampler.torch.gradients.judged_norms import Chunks
from adaptive_sampler.torch.gradients.norm_plan import batch_first


def grand(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    *,
    loss_fn: LossFn = cross_entropy,
    chunk_size: int = 128,
) -> Tensor:
    """Per-sample ‖∇_θ ℓ_i‖₂ over all trainable parameters, in eval mode.

    Norms come from each layer's input and output gradient where the layer has a rule (Linear, Conv, Embedding, batch,
    group, layer and RMS norm), also for weights that are tied or used several times; the rest, attention's packed
    projections or a parameter of one's own, by vmap(grad) over those parameters alone, or one sample at a time where
    vmap cannot follow the model. Which is which is found by watching a few samples, and then every pass. In each chunk
    two samples are also run alone, by plain autograd: where a loss or a norm is another there, the model mixes or
    rearranges samples, and each is scored alone from then on. So the values do not depend on how the data set is cut
    into batches. To the same end the first, second, fourth, eighth … chunk of a model and a loss is run twice, the
    samples moved on by one place, and so is every chunk of a model that sorts them by torch.

    Args:
        model: any module; it is run in eval mode and given back in the mode it was in.
        inputs: (batch, …) tensor; a tuple is passed as positional arguments, a mapping as keywords.
        labels: whatever `loss_fn` takes; (batch,) int64 classes for the default.
        loss_fn: (model output, labels) -> (batch,).
        chunk_size: samples worked on at once; memory grows with it, values do not change.

    Returns:
        (batch,) ≥ 0 float32 (float64 for float64 models) on the model's device: loss per unit of parameter.

    Raises:
        InvalidValue: no trainable parameters, an empty batch, batch norm without running statistics, a module of
            TorchScript, a dynamically quantised or sharded one, a loss that is not per-sample or has kept a
            parameter by itself, a label beyond the classes, a model that writes in a parameter, or a gradient that is
            not finite.

    Source:
        Paul, Ganguli, Dziugaite 2021, Deep Learning on a Data Diet, definition 2.1.
    """
    model = unwrapped(model)
    return _norms(model, trainable(model), inputs, labels, loss_fn, chunk_size)


def grand_last_layer(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    *,
    layer: nn.Linear | None = None,
    loss_fn: LossFn = cross_entropy,
    chunk_size: int = 128,
) -> Tensor:
    """Per-sample gradient norm over ONE linear layer only: not GraNd, but a forward pass is all it costs.

    For logits W h + b under cross entropy it is the closed form EL2N · √(‖h‖² + 1).

    Args:
        model: as for `grand`.
        inputs: as for `grand`.
        labels: as for `grand`.
        layer: the linear layer; the last `nn.Linear` of `model.modules()` if not given.
        loss_fn: (model output, labels) -> (batch,).
        chunk_size: samples worked on at once.

    Returns:
        (batch,) ≥ 0, as `grand`, over the layer's weight and bias.

    Raises:
        InvalidValue: as `grand`; or there is no linear layer.
    """
    model = unwrapped(model)
    linear = layer or next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)
    if linear is None:
        raise InvalidValue(f"{type(model).__name__} has no nn.Linear: name the head with layer=, or use grand")
    own = {id(parameter) for parameter in linear.parameters()}
    head = {name: p.detach() for name, p in model.named_parameters() if id(p) in own}
    return _norms(model, head, inputs, labels, loss_fn, chunk_size)


def _norms(model: nn.Module, params: Params, inputs: Any, labels: Any, loss_fn: LossFn, chunk_size: int) -> Tensor:
    _check(model, inputs, chunk_size)
    inputs, labels = map_tensors(Tensor.detach, inputs), map_tensors(Tensor.detach, labels)
    with as_found(model, evaluate=True):
        chunks = Chunks(model, params, loss_fn)
        layers = {} if chunks.mixed else batch_first(model, params, inputs, labels, loss_fn, chunk_size)
        found = [
            chunks.squares(layers, part(inputs, start, start + chunk_size), part(labels, start, start + chunk_size))
            for start in range(0, batch_size(inputs), chunk_size)
        ]
    return check_finite(torch.cat(found).sqrt(), "the gradient norm")


def _check(model: nn.Module, inputs: Any, chunk_size: int) -> None:
    if batch_size(inputs) == 0:
        raise InvalidValue("the batch is empty: a gradient needs at least one sample; skip empty batches")
    whole_number("chunk_size", chunk_size, 1, otherwise=" (samples; 128 is usual)")
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise InvalidValue(
                f"{name!r} is batch norm without running statistics: it mixes the samples of a batch, so no sample "
                "has a gradient of its own; use track_running_stats=True or group norm"
            )
