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
from adaptive_sampler.torch.gradients.norm_plan import USUAL, batch_first


def grand(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    *,
    loss_fn: LossFn = cross_entropy,
    chunk_size: int | None = None,
) -> Tensor:
    """Per-sample gradient norm ‖∇_θ ℓ_i‖₂ over all trainable parameters, in eval mode: the GraNd score.

    Norms of a layer that has a rule (Linear, Conv, Embedding, batch, group, layer and RMS norm) come from the layer's
    input and its output's gradient, also for weights that are tied or used several times. For all other parameters,
    such as attention's packed projections and a custom module's own, the gradients are formed by vmap(grad), or one
    sample at a time if vmap cannot run the model. Which parameters a rule covers is found by watching a pass of a few
    samples first, and then every pass.

    The values do not depend on how the data set is cut into batches; this is checked. In each chunk, two samples are
    also run alone, by plain autograd: if a loss or a norm differs, the model mixes or rearranges samples, and from then
    on each sample is scored alone. For the same purpose the 1st, 2nd, 4th, 8th … chunk of a model and a loss is run a
    second time with the samples moved by one place, and so is every chunk of a model that calls one of torch's sorts on
    them.

    Args:
        model: any module; it is run in eval mode and given back in the mode it was in.
        inputs: (batch, …) tensor; a tuple is passed as positional arguments, a mapping as keyword arguments.
        labels: whatever `loss_fn` takes; (batch,) int64 classes for the default.
        loss_fn: (model output, labels) -> (batch,) losses.
        chunk_size: how many samples are run at once; memory grows with it, values do not change. None: 128, or more while
            their inputs and all that the model's operations put out fit 32 MiB.

    Returns:
        (batch,) ≥ 0 float32 (float64 for float64 models) on the model's device: loss per unit of parameter.

    Raises:
        InvalidValue: the model has no trainable parameters, has batch norm without running statistics, is or holds a
            module of TorchScript or a dynamically quantised one, or is sharded; the batch is empty; the loss is not
            per-sample, or uses a parameter by a reference of its own; a label is beyond the classes; the model writes
            to a parameter; or a gradient is not finite.

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
    chunk_size: int | None = None,
) -> Tensor:
    """Per-sample gradient norm over one linear layer only: not GraNd, but it costs little more than a forward pass.

    For logits W h + b under cross entropy it is equal to EL2N · √(‖h‖² + 1), where h is the layer's input.

    Args:
        model: as for `grand`.
        inputs: as for `grand`.
        labels: as for `grand`.
        layer: the linear layer; the last `nn.Linear` of `model.modules()` if not given.
        loss_fn: (model output, labels) -> (batch,) losses.
        chunk_size: as for `grand`.

    Returns:
        (batch,) ≥ 0, as for `grand`, over the layer's weight and bias.

    Raises:
        InvalidValue: as for `grand`; or there is no linear layer.
    """
    model = unwrapped(model)
    linear = layer or next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)
    if linear is None:
        raise InvalidValue(f"{type(model).__name__} has no nn.Linear: name the head with layer=, or use grand")
    own = {id(parameter) for parameter in linear.parameters()}
    head = {name: p.detach() for name, p in model.named_parameters() if id(p) in own}
    return _norms(model, head, inputs, labels, loss_fn, chunk_size)


def _norms(
    model: nn.Module, params: Params, inputs: Any, labels: Any, loss_fn: LossFn, chunk_size: int | None
) -> Tensor:
    """(batch,) gradient norms over `params`, chunk by chunk."""
    check_batch(model, inputs, USUAL if chunk_size is None else chunk_size)
    inputs, labels = map_tensors(Tensor.detach, inputs), map_tensors(Tensor.detach, labels)
    with as_found(model, evaluate=True):
        chunks = Chunks(model, params, loss_fn)
        layers, length = (
            ({}, chunk_size or USUAL)
            if chunks.mixed
            else batch_first(model, params, inputs, labels, loss_fn, chunk_size)
        )
        found = [
            chunks.squares(layers, part(inputs, start, start + length), part(labels, start, start + length))
            for start in range(0, batch_size(inputs), length)
        ]
    return check_finite(torch.cat(found).sqrt(), "the gradient norm")


def check_batch(model: nn.Module, inputs: Any, chunk_size: int) -> None:
    """Raise `InvalidValue` for an empty batch, a bad chunk size, or batch norm that mixes the samples of a batch."""
    if batch_size(inputs) == 0:
        raise InvalidValue("the batch is empty: a gradient needs at least one sample; skip empty batches")
    whole_number("chunk_size", chunk_size, 1, otherwise=" (samples; 128 is usual)")
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise InvalidValue(
                f"{name!r} is batch norm without running statistics: it mixes the samples of a batch, so no sample "
                "has a gradient of its own; use track_running_stats=True or group norm"
            )
