"""Measures each batch after the criterion's call, and brings the values to the store."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue, NotFinite
from adaptive_sampler.scoring.sharing import shared
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.hook.call import Call
from adaptive_sampler.torch.hook.observation import class_of_each, observed
from adaptive_sampler.torch.hook.pending import Fresh
from adaptive_sampler.torch.hook.reduction import is_torchs
from adaptive_sampler.torch.hook.side_effects import Looks, SideEffects
from adaptive_sampler.torch.hook.tally import Tally
from adaptive_sampler.torch.hook.transfer import Step, Transfer


@dataclass
class Recorder:
    """Records, in `store`, the scores of the samples that `criterion` is called with."""

    criterion: nn.Module
    store: ScoreStore
    nonfinite: Literal["skip", "raise"]
    tally: Tally
    transfer: Transfer = field(default_factory=Transfer)
    looks: Looks = field(default_factory=Looks)

    def run(self, call: Call) -> tuple[Any, SideEffects | None]:
        """Call the criterion -> (what it returns, the `SideEffects` that watched the call).

        The second is None if the criterion need not be called again for the losses of single samples, or is torch's
        own.
        """
        criterion = self.criterion
        again = getattr(criterion, "reduction", "none") != "none" and self.store.session.takes("loss")
        if not again or is_torchs(criterion):
            return call.on(criterion), None
        watch = SideEffects(criterion, call.input, closely=self.looks.due())
        return call.on(criterion), watch

    def observe(
        self,
        rows: torch.Tensor,
        fresh: Fresh,
        call: Call,
        value: Any,
        losses: torch.Tensor | None,
        watch: SideEffects | None,
    ) -> None:
        """Measure a call, and record those of its samples that are `fresh`.

        `rows` (batch,) int64. `value`, `losses`, `watch`: as for `observed`.
        """
        with torch.no_grad(), shared():
            observation, valid = observed(self.criterion, self.store, call, value, losses, watch)
            values = self.store.session.measure(**observation)
        wanted = self.store.session.classes.wanted
        labels = class_of_each(self.criterion, call, observation.get("labels")) if wanted else None
        self.send_fresh(rows, fresh, values, valid, labels)

    def send_fresh(
        self,
        rows: torch.Tensor,
        fresh: Fresh,
        values: dict[str, Any],
        valid: torch.Tensor | None,
        labels: torch.Tensor | None = None,
    ) -> None:
        """Record the values of the samples that are both `fresh` and `valid`; the other arguments are those of `send`."""
        if isinstance(fresh, torch.Tensor):
            valid = fresh if valid is None else fresh.to(valid.device) & valid
        self.send(rows, values, valid, labels)

    def send(
        self,
        rows: torch.Tensor,
        values: dict[str, Any],
        valid: torch.Tensor | None,
        labels: torch.Tensor | None = None,
    ) -> None:
        """Begin to move the values to the host, and fold into the store those that have arrived there.

        `rows` (batch,) int64; `values`: score name -> (batch,); `valid`: (batch,) bool, None for all; `labels`: the
        classes, (batch,) integers, None if they are not wanted. Does nothing during a rehearsal
        (`store.session.rehearsal`). Raises `InvalidValue` for values of another shape.
        """
        if self.store.session.rehearsal:
            return
        batch = (rows.shape[0],)
        for name, value in values.items():
            if value.shape != batch:
                raise InvalidValue(
                    f"{name}: {tuple(value.shape)} values for {batch[0]} rows; one value a row is needed."
                )
        self.transfer.send(rows, values, valid, self.store.epoch, labels)
        for step in self.transfer.receive(wait=False):
            self._fold(step)

    def flush(self) -> None:
        """Fold into the store everything that was sent, waiting for the device if necessary."""
        for step in self.transfer.receive(wait=True):
            self._fold(step)

    def _fold(self, step: Step) -> None:
        """Fold one step into the store.

        Values that are not finite are left out or raise `NotFinite`, as `nonfinite` says.
        """
        rows, values, labels = step.read()
        if not len(rows):  # the criterion ignores all samples of this step
            return
        try:
            self.store.session.fold_matrix(rows, step.names, values, step.epoch)
            self.tally.seen += len(rows)
        except NotFinite:
            if self.nonfinite == "raise":
                raise
            finite = np.isfinite(values).all(axis=0)
            if finite.any():
                kept = np.ascontiguousarray(values[:, finite])
                self.store.session.fold_matrix(rows[finite], step.names, kept, step.epoch)
            self.tally.leave_out(len(rows) - int(finite.sum()), len(rows))
        if labels is not None:
            self.store.session.classes.note(rows, labels, len(self.store))
