"""The error barrier: by how much the error rises on the straight way from one set of weights to another."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.gradients.as_found import as_found
from adaptive_sampler.torch.gradients.functional import Params, followed, unwrapped
from adaptive_sampler.torch.gradients.samples import device_of, samples
from adaptive_sampler.torch.gradients.states import State, tensors_at

ErrorFn = Callable[[Any, Any], Tensor]
"""(model output, labels) -> (batch,): the error of each sample."""


def is_wrong(output: Any, labels: Tensor) -> Tensor:
    """Whether the largest of the logits, (batch, classes), is another class than `labels`, (batch,): (batch,) bool."""
    logits = getattr(output, "logits", output)  # Hugging Face's models return an object that holds the logits
    if not isinstance(logits, Tensor) or logits.ndim != 2 or labels.shape != logits.shape[:1]:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidValue(
            f"the model gives {shape}, the labels have shape {tuple(labels.shape)}: (batch, classes) and (batch,) are needed. For "
            "others pass error_fn=, which gives the error of each sample."
        )
    classes = logits.shape[1]
    if logits.isnan().any():
        raise InvalidValue(
            "the model gives NaN, of which none is the largest. Look at the inputs, or use a wider dtype."
        )
    if labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
        raise InvalidValue(
            f"the labels are {labels.min():g} to {labels.max():g}, beyond the {classes} classes of the model, so that they would "
            "always be wrong: map them first, or leave such samples out."
        )
    return logits.argmax(1) != labels


def error_barrier(
    model: nn.Module, a: State, b: State, loader: Any, *, points: int = 31, error_fn: ErrorFn = is_wrong
) -> float:
    """The largest of err(αa + (1 − α)b) − α err(a) − (1 − α) err(b), over `points` evenly spaced α from 0 to 1.

    Parameters are interpolated, and so are buffers of floating point, such as the running statistics of batch norm; other
    buffers are those of `b`. The model runs in eval mode, so that dropout does nothing. The loader is read once: every batch is
    seen by all points.

    Args:
        model: any module; it is given back as it was. Its own values do not matter.
        a: `state_dict()` of the model at the end of one training, or a module of the same kind.
        b: likewise, of the other training.
        loader: yields (inputs, labels), a dict with "labels", or either after its rows. Take rows by their score with
            `adaptive_sampler.ranking.by_rank`.
        points: how many α, 2 or more, both ends among them.
        error_fn: (model output, labels) -> (batch,) errors; their mean is err. By default whether the largest logit is not the
            label's.

    Returns:
        The barrier, 0 or more, in the unit of the error; by default a share of the samples.

    Raises:
        InvalidValue: a state that is not this model's; a loader without samples; errors that are not one per sample, or not finite.

    Source:
        Frankle et al. 2020, Linear mode connectivity and the lottery ticket hypothesis; the form that is linear between both
        errors, and subsets by score, are of Paul et al. 2021, section 6.
    """
    whole_number("points", points, 2)
    model = unwrapped(model)
    ends = tensors_at(model, a, "a"), tensors_at(model, b, "b")
    alphas = [place / (points - 1) for place in range(points)]
    sums, number = torch.zeros(points, dtype=torch.float64), 0
    with as_found(model, evaluate=True), torch.no_grad():
        for _, inputs, labels in samples(loader, device_of(model)):
            then = partial(_errors, error_fn, labels)
            for place, alpha in enumerate(alphas):
                sums[place] += followed(model, _between(*ends, alpha), inputs, then).cpu().double().sum()
            number += len(labels)
    if not number:
        raise InvalidValue("the loader yields no sample, and an error is a mean over some. Pass a loader of some rows.")
    first, *errors, last = map(float, sums / number)
    rises = (e - first - alpha * (last - first) for alpha, e in zip(alphas[1:-1], errors, strict=True))
    return max([0.0, *rises])


def _between(a: Params, b: Params, alpha: float) -> Params:
    """αa + (1 − α)b, of what is of floating point; what is equal in both, −inf of a mask too, stays."""
    return {
        name: _mixed(tensor, b[name], alpha) if tensor.is_floating_point() else b[name] for name, tensor in a.items()
    }


def _mixed(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return torch.where(a == b, b, torch.lerp(b, a, alpha))


def _errors(error_fn: ErrorFn, labels: Any, output: Any) -> Tensor:
    """The errors of a batch. Raises `InvalidValue` if they are not one per sample, or not finite."""
    errors = error_fn(output, labels)
    if not isinstance(errors, Tensor) or errors.shape != (len(labels),):
        shape = tuple(errors.shape) if isinstance(errors, Tensor) else type(errors).__name__
        raise InvalidValue(f"error_fn gives {shape} for {len(labels)} labels: one error for each sample is needed.")
    if not errors.isfinite().all():
        raise InvalidValue(
            "an error is NaN or inf, and a mean of such errors says nothing. Have error_fn give finite ones."
        )
    return errors
