"""Measures each batch after the criterion's call, and records the values."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from adaptive_sampler.arrays import as_compiled
from adaptive_sampler.scoring.sharing import shared
from adaptive_sampler.torch.hook.call import Call
from adaptive_sampler.torch.hook.observation import class_of_each, observed
from adaptive_sampler.torch.hook.pending import Fresh
from adaptive_sampler.torch.hook.recorder import Recorder
from adaptive_sampler.torch.hook.reduction import is_cross_entropy, is_torchs
from adaptive_sampler.torch.hook.side_effects import Looks, SideEffects


@dataclass
class CriterionRecorder(Recorder):
    """Records, in `store`, the scores of the samples that `criterion` is called with."""

    criterion: nn.Module = field(kw_only=True)
    looks: Looks = field(default_factory=Looks)

    def run(self, call: Call) -> tuple[Any, SideEffects | None]:
        """Call the criterion -> (what it returns, the `SideEffects` that watched the call).

        The second is None if the criterion need not be called again for the losses of single samples, or is torch's
        own.
        """
        criterion = self.criterion
        if is_torchs(criterion):  # asked first: the usual case
            return criterion(*call.given, **call.named), None
        if getattr(criterion, "reduction", "none") == "none" or not self.store.session.takes("loss"):
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
        if losses is None and fresh is True and self._recorded(rows, call):
            return
        with torch.no_grad(), shared():
            observation, valid = observed(self.criterion, self.store, call, value, losses, watch)
            values = self.store.session.measure(**observation)
        wanted = self.store.session.classes.wanted
        labels = class_of_each(self.criterion, call, observation.get("labels")) if wanted else None
        self.send_fresh(rows, fresh, values, valid, labels)

    def _recorded(self, rows: torch.Tensor, call: Call) -> bool:
        """Record a call in the usual case, with few operations -> whether this is that: cross entropy of classes on the host, of
        which one pass measures every score.

        Otherwise nothing was done; where a label is ignored or wrong, too.
        """
        logits, labels, session = call.input, call.target, self.store.session
        if (
            type(logits) is not torch.Tensor
            or type(labels) is not torch.Tensor
            or session.rehearsal
            or self.transfer.steps
        ):
            return False
        if not (
            logits.is_cpu
            and rows.is_cpu
            and logits.dtype.itemsize > 2
            and is_cross_entropy(self.criterion, logits, labels)
        ):
            return False
        ignored: Any = self.criterion.ignore_index
        if labels.is_floating_point() or 0 <= ignored < logits.shape[1]:
            return False
        classes = labels.numpy()
        values = session.table.reader.matrix(
            logits.numpy(force=True), classes
        )  # sooner than by `detach`; negates what is only marked so
        if values is None:
            return False
        host = as_compiled(rows.numpy(), np.int64)
        self.keep(host, tuple(session.table.columns), values, session.clock.epoch)
        if session.classes.wanted:
            session.classes.note(host, classes, len(self.store))
        return True
