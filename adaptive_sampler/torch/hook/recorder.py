"""Brings measured values to the store: sends them to the host, folds what has arrived, leaves out what is not finite."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from adaptive_sampler.errors import InvalidValue, NotFinite
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.hook.pending import Fresh
from adaptive_sampler.torch.hook.tally import Tally
from adaptive_sampler.torch.hook.transfer import Step, Transfer


def check_nonfinite(nonfinite: Any) -> None:
    """Raise `InvalidValue` unless `nonfinite` is one of the two ways to meet values that are not finite."""
    if nonfinite not in ("skip", "raise"):
        raise InvalidValue(f"nonfinite={nonfinite!r}: one of 'skip', 'raise'.")


@dataclass
class Recorder:
    """Records measured values in `store`."""

    store: ScoreStore
    nonfinite: Literal["skip", "raise"]
    tally: Tally
    transfer: Transfer = field(default_factory=Transfer)

    def send_fresh(
        self,
        rows: torch.Tensor,
        fresh: Fresh,
        values: dict[str, Any],
        valid: torch.Tensor | None,
        labels: torch.Tensor | None = None,
        *,
        pieces: bool = False,
        weights: np.ndarray | None = None,
    ) -> None:
        """Record the values of the samples that are both `fresh` and `valid`; the other arguments are those of `send`."""
        if isinstance(fresh, torch.Tensor):
            valid = fresh if valid is None else fresh.to(valid.device) & valid
        self.send(rows, values, valid, labels, pieces=pieces, weights=weights)

    def send(
        self,
        rows: torch.Tensor,
        values: dict[str, Any],
        valid: torch.Tensor | None,
        labels: torch.Tensor | None = None,
        *,
        pieces: bool = False,
        weights: np.ndarray | None = None,
    ) -> None:
        """Begin to move the values to the host, and fold into the store those that have arrived there.

        `rows` (batch,) int64; `values`: score name -> (batch,); `valid`: (batch,) bool, None for all; `labels`: the
        classes, (batch,) integers, None if they are not wanted; `pieces`, `weights`: as in `Step`. Does nothing during a
        rehearsal (`store.session.rehearsal`). Raises `InvalidValue` for values of another shape.
        """
        if self.store.session.rehearsal:
            return
        batch = (rows.shape[0],)
        for name, value in values.items():
            if value.shape != batch:
                raise InvalidValue(
                    f"{name}: {tuple(value.shape)} values for {batch[0]} rows; one value a row is needed."
                )
        self.transfer.send(rows, values, valid, self.store.epoch, labels, pieces=pieces, weights=weights)
        for step in self.transfer.receive(wait=False):
            self.fold(step)

    def flush(self) -> None:
        """Fold into the store everything that was sent, waiting for the device if necessary."""
        for step in self.transfer.receive(wait=True):
            self.fold(step)

    def fold(self, step: Step) -> None:
        """Fold one step into the store, as `keep` does."""
        rows, values, labels = step.read()
        if not len(rows):  # the criterion ignores all samples of this step
            return
        self.keep(rows, step.names, values, step.epoch)
        if labels is not None:
            self.store.session.classes.note(rows, labels, len(self.store))

    def keep(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """Fold `values`, (scores, batch) float32, of `rows`, (batch,) int64, into the store.

        Values that are not finite are left out or raise `NotFinite`, as `nonfinite` says.
        """
        try:
            self.store.session.fold_matrix(rows, names, values, epoch)
            self.tally.seen += len(rows)
        except NotFinite:
            if self.nonfinite == "raise":
                raise
            finite = np.isfinite(values).all(axis=0)
            if finite.any():
                kept = np.ascontiguousarray(values[:, finite])
                self.store.session.fold_matrix(rows[finite], names, kept, epoch)
            self.tally.leave_out(len(rows) - int(finite.sum()), len(rows))

    @property
    def used(self) -> bool:
        """Whether anything was recorded so far."""
        return bool(self.tally.seen or len(self.transfer))
