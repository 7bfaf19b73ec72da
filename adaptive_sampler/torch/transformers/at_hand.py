"""The batch of the Trainer's step at hand: its rows are the hook's for just that step, whatever calls the hook in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.tokens.hook import TokenLossHook

OWN_LOSS = 'override compute_loss: return hook(outputs.logits, inputs["labels"]), which knows the rows of the step'


@dataclass
class AtHand:
    """A batch in training: `rows` (batch,) int64, and `weights` (batch,) float32, None if all are 1."""

    hook: LossHook | TokenLossHook
    rows: torch.Tensor
    weights: np.ndarray | None
    _before: int = field(init=False)
    _covered: bool = field(default=False, init=False)  # whether the Trainer of ours records, and weighs, the batch

    def __post_init__(self) -> None:
        self._before = self._calls()

    def _calls(self) -> int:
        return self.hook._adaptive_sampler.applied.calls

    @property
    def recorded(self) -> bool:
        """Whether anything was recorded since the batch came."""
        return self._calls() > self._before

    def called(self) -> bool:
        """Whether `compute_loss` called the hook itself. Raises `InvalidValue` if the hook cannot weigh what it must."""
        weighs = self._covered or self.weights is None or self.hook.sampler is not None
        if self.recorded and not weighs:
            raise InvalidValue(
                f"the plan weighs samples, and compute_loss called a hook of {type(self.hook.criterion).__name__}, which cannot "
                "weigh: it has no `reduction`. Leave the hook to the Trainer, or give it a criterion of torch."
            )
        return self.recorded

    def cover(self) -> None:
        """Note that the batch is being recorded: a call of the hook that follows in this step records it no second time."""
        self._covered = True
        self.hook._adaptive_sampler.pending.take(self.rows, len(self.rows))

    def check(self, trainer: Any) -> None:
        """Raise `InvalidValue` if nothing was recorded of the batch, so that neither scores nor weights came of it."""
        if not self.called() and not self.hook.store.session.rehearsal:
            kind = next(one for one in type(trainer).__mro__ if "compute_loss" in vars(one))
            raise InvalidValue(
                f"compute_loss of {kind.__name__} neither calls super().compute_loss nor the hook: nothing of this step was "
                f"recorded, and no weight of the plan reached its loss. Have it call either; {OWN_LOSS}."
            )


@contextmanager
def at_hand(
    hook: LossHook | TokenLossHook, sampler: AdaptiveSampler, rows: torch.Tensor, weights: np.ndarray | None
) -> Iterator[AtHand]:
    """A context in which calls of the hook are of these rows, as if `watch` had delivered them, and weighed as `sampler` says.

    A `TokenLossHook` has the sampler even where nothing weighs: it tells whether rows come several times. Raises
    `InvalidValue` as `check_sampler` does.
    """
    check_sampler(hook, sampler, weighted=weights is not None)
    pending, owner, given = hook._adaptive_sampler.pending, object(), hook.sampler
    if isinstance(hook, TokenLossHook) or (weights is not None and hasattr(hook.criterion, "reduction")):
        hook.sampler = sampler
    pending.expect(owner)
    pending.put(rows, owner)
    try:
        yield AtHand(hook, rows, weights)
    finally:
        pending.forget(owner)
        hook.sampler = given  # another training may draw by another sampler


def check_sampler(hook: LossHook | TokenLossHook, sampler: AdaptiveSampler, *, weighted: bool) -> None:
    """Raise `InvalidValue` if the hook weighs, or a `TokenLossHook` tells pieces from visits, by another sampler's plans."""
    if (weighted or isinstance(hook, TokenLossHook)) and hook.sampler not in (None, sampler):
        raise InvalidValue(
            f"hook.sampler={hook.sampler!r} is another sampler than the Trainer's, sampler={sampler!r}: weights would be those of "
            "rows that are not trained on. Give both the same, or make the hook without one."
        )
