"""Turns a criterion call into an observation for the store: logits, labels and losses of the samples that it counts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from adaptive_sampler.arrays import library
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring.measures import cross_entropy
from adaptive_sampler.scoring.one_pass import at_hand
from adaptive_sampler.scoring.reading import is_built_in
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.batches import tensors_of
from adaptive_sampler.torch.hook.call import Call, innermost
from adaptive_sampler.torch.hook.parts import PartsLoss
from adaptive_sampler.torch.hook.reduction import is_cross_entropy, no_single_loss, per_sample
from adaptive_sampler.torch.hook.side_effects import SideEffects

# Criteria whose input is not one logit per class, or whose target is not a class: a softmax of that input means
# nothing.
_OF_NO_CLASSES = (
    nn.L1Loss,
    nn.MSELoss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.PoissonNLLLoss,
    nn.GaussianNLLLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.SoftMarginLoss,
    nn.MultiLabelMarginLoss,
    nn.MultiLabelSoftMarginLoss,
    nn.HingeEmbeddingLoss,
    nn.CosineEmbeddingLoss,
    nn.MarginRankingLoss,
    nn.TripletMarginLoss,
    nn.TripletMarginWithDistanceLoss,
    nn.CTCLoss,
    nn.AdaptiveLogSoftmaxWithLoss,  # of features, not logits
    PartsLoss,  # of losses
    *(kind for kind in (getattr(nn, "LinearCrossEntropyLoss", None),) if kind),  # of features, not logits
)


def _no_classes(criterion: nn.Module) -> bool:
    """Whether the criterion's input is not logits, or its target neither a class nor a distribution over classes."""
    inner = innermost(criterion) if criterion._modules else criterion
    return isinstance(inner, _OF_NO_CLASSES) or (isinstance(inner, nn.KLDivLoss) and inner.log_target)


def observed(
    criterion: nn.Module,
    store: ScoreStore,
    call: Call,
    value: Any,
    losses: torch.Tensor | None,
    watch: SideEffects | None,
) -> tuple[dict[str, Any], torch.Tensor | None]:
    """Build the observation of a criterion call -> (arrays for `store.session.measure`, which samples to record).

    The second is (batch,) bool, or None for all samples. `value`: what the criterion returned. `losses`: the losses of
    the samples, (batch, …), None if they are not known. `watch`: the `SideEffects` that watched the criterion's call,
    or None. Raises `InvalidValue` if a score needs an input that this call does not have, or that means nothing here.
    """
    target, given = call.target, {"logits": call.input, "labels": call.target}
    if type(call.input) is torch.Tensor and type(target) is torch.Tensor:  # the usual case, at every step
        observation: dict[str, Any] = {"logits": call.input.detach(), "labels": target}
    else:
        observation = {n: x.detach() if isinstance(x, torch.Tensor) else x for n, x in given.items() if _is_array(x)}
        target = observation.get("labels")
    plain = type(criterion) is nn.CrossEntropyLoss  # checked first: comparing with the list above is slow
    if (not plain and _no_classes(criterion)) or len(observation) < len(given):
        _check(criterion, store, observation, given)
    valid = _valid(target, getattr(criterion, "ignore_index", None))
    if valid is not None:
        observation["labels"] = torch.where(valid, call.target, 0)
    # If the criterion is plain cross entropy, built-in scores compute the loss from the logits, with the softmax that
    # all measures share. They then need no losses from here.
    if losses is not None or not is_cross_entropy(criterion, call.input, target):
        if store.session.takes("loss"):
            losses = per_sample(criterion, call, value, losses, watch)
            if losses.ndim > 1 and not store.session.takes(
                "loss", instead_of_logits=True
            ):  # a custom measure may take several losses per sample
                raise no_single_loss(criterion, losses)
    elif store.session.takes("loss", instead_of_logits=True):
        losses = torch.as_tensor(cross_entropy(at_hand(observation["logits"]), at_hand(observation["labels"])))
    return observation if losses is None else observation | {"loss": losses.detach()}, valid


def class_of_each(criterion: nn.Module, call: Call, labels: Any) -> torch.Tensor | None:
    """`labels` as the class of each sample, (batch,) integers; None where they are something else.

    That is a regression's target, a distribution, several labels a sample, or the labels of tokens or pixels.
    """
    given = call.input
    if not isinstance(labels, torch.Tensor) or not isinstance(given, torch.Tensor) or _no_classes(criterion):
        return None
    integers = not (labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool)
    return labels if integers and labels.shape == given.shape[:1] and given.ndim == 2 and given.shape[1] > 1 else None


def _is_array(x: Any) -> bool:
    """Whether `x` can be recorded: an array of some library or a list of numbers, but no nesting of tensors."""
    return x is not None and not isinstance(x, Mapping) and (bool(library(x)) or next(tensors_of(x), None) is None)


def _check(criterion: nn.Module, store: ScoreStore, observation: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise `InvalidValue` if a score needs an input that this call lacks, or a softmax that means nothing here."""
    kind, there = type(criterion).__name__, {*observation, "loss"}
    for score in store.scores:
        inputs = next((some for some in score.inputs if set(some) <= {*given, "loss"}), ())
        if "logits" in inputs and is_built_in(score) and _no_classes(criterion):
            raise InvalidValue(
                f"score {score.name!r} takes softmax(logits), one class a sample, and what {kind} is called with is no such logits "
                "and labels. Leave the score out of the store (Loss() takes any criterion's loss), or record logits and "
                "labels that are classes: hook.record(rows, logits=..., labels=...), store.update(rows, ...)."
            )
        if not set(inputs) <= there:
            missing = sorted(set(inputs) - there)
            raise InvalidValue(
                f"score {score.name!r} takes {' and '.join(missing)}, and {kind} was called with "
                f"{' and '.join(type(given[name]).__name__ for name in missing)} in that place. Record what scores take yourself: "
                "hook.record(rows, loss=..., logits=..., labels=...); under watch rows = hook.claim(len(input)). What you "
                "train on is then hook.criterion(...)."
            )


def _valid(target: Any, ignored: Any) -> torch.Tensor | None:
    """(batch,) bool: which samples the criterion does not ignore; None for all, or if `target` is not one class per sample.

    `ignored`: the criterion's `ignore_index`, None if it has none.
    """
    if ignored is None or not isinstance(target, torch.Tensor):
        return None
    if target.ndim != 1 or target.is_floating_point():
        return None
    labels = at_hand(target)
    if not isinstance(labels, np.ndarray):  # on an accelerator, where looking for the value would wait for it
        return torch.ne(target, ignored)
    if ignored in labels or target.dtype is torch.bool:
        return torch.from_numpy(labels != ignored)
    return None
