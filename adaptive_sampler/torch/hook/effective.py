"""Counts the loss weights that a hook applied in an epoch, and how many samples of equal weight they are worth."""

from dataclasses import dataclass

import numpy as np
import torch

from adaptive_sampler.torch.hook.pending import Fresh


@dataclass(slots=True)
class Applied:
    """The weights of one epoch's samples: their sum and the sum of their squares."""

    epoch: int = -1
    total: float = 0.0
    squares: float = 0.0
    calls: int = 0  # that recorded anything, of all epochs

    def add(self, epoch: int, length: int, fresh: Fresh, weights: np.ndarray | None) -> None:
        """Count the samples of a call on `length` of them in `epoch`, which begins anew if it is another one.

        `fresh`: which of them no earlier call covered; `weights` (length,) float32, None where each is 1.
        """
        if epoch != self.epoch:
            self.epoch, self.total, self.squares = epoch, 0.0, 0.0
        if weights is None and fresh is True:  # the usual case, at every step
            self.calls, self.total, self.squares = self.calls + 1, self.total + length, self.squares + length
            return
        if weights is None:
            weights = np.ones(length, np.float32)
        if isinstance(fresh, torch.Tensor):
            weights = weights[fresh.numpy()]
        elif not fresh:
            return
        self.calls += 1
        self.total += float(weights.sum(dtype=np.float64))
        self.squares += float(np.square(weights, dtype=np.float64).sum())

    def effective(self, epoch: int) -> float:
        """(Σw)²/Σw² of the weights applied in `epoch`; 0.0 if there are none."""
        return self.total**2 / self.squares if epoch == self.epoch and self.squares else 0.0
