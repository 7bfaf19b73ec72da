"""What a batch of outputs says to a store: the criterion's losses, and no label that the criterion leaves out."""

from typing import Any

import numpy as np
import torch
from torch import nn

from adaptive_sampler.scoring.measures import cross_entropy
from adaptive_sampler.scoring.one_pass import at_hand
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.reduction import is_cross_entropy, no_single_loss, per_sample


def observed(
    criterion: nn.Module,
    store: ScoreStore,
    input: torch.Tensor,
    target: Any,
    value: torch.Tensor | None,
    losses: torch.Tensor | None,
) -> tuple[dict[str, Any], torch.Tensor | None]:
    """-> the observation for `store.measure`, and which samples are recorded, (batch,) bool, None for all.

    `value`: what the criterion returned, `losses`: those of the samples; None where they are not known.
    """
    logits, labels = input.detach(), target
    valid = _valid(target, getattr(criterion, "ignore_index", None))
    if valid is not None:
        labels = torch.where(valid, target, 0)
    # A score of the loss takes it of the softmax that the measures share, where the criterion has that loss.
    if losses is not None or not is_cross_entropy(criterion, logits, target):
        if store.takes("loss"):
            losses = per_sample(criterion, logits, target, value, losses)
            if losses.ndim > 1 and not store.takes("loss", instead_of_logits=True):  # one's own measure may take them
                raise no_single_loss(criterion, losses)
    elif store.takes("loss", instead_of_logits=True):
        losses = torch.as_tensor(cross_entropy(at_hand(logits), at_hand(labels)))
    observation = {"logits": logits, "labels": labels}
    return observation if losses is None else observation | {"loss": losses.detach()}, valid


def _valid(target: Any, ignored: Any) -> torch.Tensor | None:
    """Which samples the criterion does not leave out; None where it is all, or `target` has no single class a sample."""
    if ignored is None or not isinstance(target, torch.Tensor):
        return None
    if target.ndim != 1 or target.is_floating_point():
        return None
    labels = at_hand(target)
    if not isinstance(labels, np.ndarray):  # looking at a GPU would wait for it
        return torch.ne(target, ignored)
    if ignored in labels or target.dtype is torch.bool:
        return torch.from_numpy(labels != ignored)
    return None
