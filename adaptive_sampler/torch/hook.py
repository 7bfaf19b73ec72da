"""The loss hook: the criterion as before, and every sample's scores recorded on the way."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue, NotFinite
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.scoring.sharing import shared
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.delivery import Delivery
from adaptive_sampler.torch.observation import observed
from adaptive_sampler.torch.reduction import weighted
from adaptive_sampler.torch.rows import PendingRows, checked_rows, row_key, split
from adaptive_sampler.torch.tally import Tally
from adaptive_sampler.torch.transfer import Step, Transfer


class LossHook(nn.Module):
    """`hook(logits, labels)` returns what `criterion` returns, and records what the store's scores take of it.

    Rows come from `watch`, or from `rows=`. Without plan weights the criterion itself runs; its parameters, buffers and
    state_dict keys stay its own. With `sampler`, whose plans may weigh samples, the value is Σ weight·ℓ over the
    criterion's own denominator. What is recorded is the criterion's unreduced loss, before plan weights, and
    measures of the logits.

    `nonfinite`: "skip" leaves out rows with a NaN or inf, counts them in `skipped`, warns once, and raises when they are
    more than the share `max_skipped` of (at least 1000) rows; "raise" raises at the first.
    """

    def __init__(
        self,
        criterion: nn.Module,
        store: ScoreStore,
        *,
        sampler: AdaptiveSampler | None = None,
        nonfinite: Literal["skip", "raise"] = "skip",
        max_skipped: float = 0.1,
    ) -> None:
        super().__init__()
        if nonfinite not in ("skip", "raise"):
            raise InvalidValue(f"nonfinite={nonfinite!r}: one of 'skip', 'raise'.")
        if not isinstance(criterion, nn.Module):
            raise InvalidValue(
                f"criterion={criterion!r} is no torch.nn.Module. Use the module of that loss, such as nn.CrossEntropyLoss(), or "
                "compute it as you do and call hook.record(rows, ...)."
            )
        if sampler is not None and not hasattr(criterion, "reduction"):
            raise InvalidValue(
                f"sampler= weighs samples, and {type(criterion).__name__} has no `reduction` to take them apart by. Give it a "
                "reduction that may be 'none', or weigh the losses yourself: sampler.loss_weights(rows)."
            )
        self._wear(criterion)
        self.store, self.sampler = store, sampler
        self._nonfinite = nonfinite
        self._criterion: nn.Module
        self._pending, self._transfer = PendingRows(), Transfer()
        self._tally, self._watched = Tally(max_skipped), Delivery()
        store.register(self)

    def forward(self, input: torch.Tensor, target: Any, rows: Any = None) -> torch.Tensor:
        """The criterion's value for `input` (batch, …) and `target`; records the batch if gradients are on.

        `rows` (batch,): which rows these samples are; from `watch` where None. Raises `InvalidValue` where the rows
        are in doubt.
        """
        taken: torch.Tensor | None
        if torch.is_grad_enabled():
            taken = self.claim(len(input)) if rows is None else checked_rows(rows, len(input))
        else:
            taken = None if rows is None else checked_rows(rows, len(input))
        weights = None
        if self.sampler is not None and taken is not None:
            weights = self.sampler.loss_weights(taken.cpu())
        losses: torch.Tensor | None = None
        if weights is None or (weights == 1).all():
            value = self.criterion(input, target)
        else:
            value, losses = weighted(self.criterion, input, target, torch.from_numpy(weights))
        if taken is not None and torch.is_grad_enabled():
            with torch.no_grad():
                self._observe(taken, input, target, value, losses)
            if self._watched.unweighted and not value.ndim:  # losses one by one may yet be weighed
                self._warn_unweighted()
        return value  # type: ignore[no-any-return]

    def watch(self, loader: Any) -> Iterator[Any]:
        """The samples of a loader over an `IndexedDataset`; their rows are kept for the one following call.

        It must be the outermost iterator. One pass is one epoch of the store's clock, unless a sampler sets it.
        """
        owner = object()
        self._pending.expect(owner)
        return self._watching(loader, row_key(loader), owner)

    def _watching(self, loader: Any, key: str | None, owner: object) -> Iterator[Any]:
        watched, store, over = self._watched, self.store, False
        watched.enter(loader, store, self.sampler)
        try:
            for rows, sample in split(loader, key):
                watched.take(rows, store, self.sampler)
                self._pending.put(rows, owner)
                yield sample
            over = True
        finally:
            watched.leave(over=over)
            self._pending.forget(owner)

    def claim(self, length: int) -> torch.Tensor:
        """The rows (length,) of the watched batch, for a loss that is computed elsewhere; each batch gives them once."""
        return self._pending.claim(length)

    def forget(self) -> None:
        """Tell that the watched batch is left out: no loss will be computed for it."""
        self._pending.forget()

    def record(self, rows: Any, **observation: Any) -> None:
        """Record an observation (arrays with a leading batch axis) of a loop that computes its losses elsewhere."""
        with torch.no_grad():
            self._send(checked_rows(rows, None), self.store.measure(**observation), None)

    def record_outputs(self, rows: Any, logits: torch.Tensor, labels: Any, losses: torch.Tensor | None = None) -> None:
        """Record what a call would, for a training that computes the criterion's loss elsewhere. `losses` (batch,), if known."""
        with torch.no_grad():
            self._observe(checked_rows(rows, len(logits)), logits, labels, None, losses)

    def flush(self) -> None:
        """Fold everything recorded so far into the store, waiting for the device if need be."""
        for step in self._transfer.receive(wait=True):
            self._fold(step)

    @property
    def criterion(self) -> nn.Module:
        """The criterion."""
        return self._criterion

    @property
    def delivered(self) -> int:
        """Samples of this epoch that `watch` delivered, those before a resume included: for sampler.state_dict(delivered=).

        Raises `InvalidValue` where rows were recorded and none went through `watch`, as they may be of any batch, and where
        the batches were not those that the sampler drew: a number of samples is no position then.
        """
        if self._watched.run is None and (self._tally.seen or len(self._transfer)):
            raise InvalidValue(
                "hook.delivered counts what hook.watch(loader) delivers, and these rows came by rows= or record: it would say 0. "
                "Watch the loader, or count the samples that you were given: sampler.state_dict(delivered=your count)."
            )
        return self._watched.count()

    @property
    def epoch(self) -> int:
        """The store's epoch clock."""
        return self.store.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.store.epoch = epoch

    @property
    def skipped(self) -> int:
        """How many observations were left out because a value was not finite."""
        self.flush()
        return self._tally.skipped

    def _wear(self, criterion: nn.Module) -> None:
        """Show the criterion's parameters, buffers and children as one's own, so that no state_dict key changes."""
        object.__setattr__(self, "_criterion", criterion)
        for kept in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            object.__setattr__(self, kept, getattr(criterion, kept))
        self.training = criterion.training

    def extra_repr(self) -> str:
        """The criterion."""
        return repr(self.criterion)

    def train(self, mode: bool = True) -> "LossHook":
        """As nn.Module's; reaches the criterion."""
        self.criterion.train(mode)
        self.training = mode
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "LossHook":
        """The criterion is copied, store and sampler are shared."""
        twin = LossHook(
            copy.deepcopy(self.criterion, memo),
            self.store,
            sampler=self.sampler,
            nonfinite=self._nonfinite,
            max_skipped=self._tally.max_skipped,
        )
        memo[id(self)] = twin
        return twin

    def _observe(
        self,
        rows: torch.Tensor,
        input: torch.Tensor,
        target: Any,
        value: torch.Tensor | None,
        losses: torch.Tensor | None,
    ) -> None:
        with shared():
            observation, valid = observed(self.criterion, self.store, input, target, value, losses)
            values = self.store.measure(**observation)
        self._send(rows, values, valid)

    def _send(self, rows: torch.Tensor, values: dict[str, Any], valid: torch.Tensor | None) -> None:
        if self.store.rehearsal:
            return
        batch = (rows.shape[0],)
        for name, value in values.items():
            if value.shape != batch:
                raise InvalidValue(
                    f"{name}: {tuple(value.shape)} values for {batch[0]} rows; one value a row is needed."
                )
        self._transfer.send(rows, values, valid, self.store.epoch)
        for step in self._transfer.receive(wait=False):
            self._fold(step)

    def _fold(self, step: Step) -> None:
        rows, values = step.read()
        if not len(rows):  # all are ignored by the criterion
            return
        try:
            self.store.fold_matrix(rows, step.names, values, step.epoch)
            self._tally.seen += len(rows)
        except NotFinite:
            if self._nonfinite == "raise":
                raise
            finite = np.isfinite(values).all(axis=0)
            if finite.any():
                kept = np.ascontiguousarray(values[:, finite])
                self.store.fold_matrix(rows[finite], step.names, kept, step.epoch)
            self._tally.leave_out(len(rows) - int(finite.sum()), len(rows))

    def _warn_unweighted(self) -> None:
        self._watched.unweighted, self._watched.warned = False, True
        warnings.warn(
            "the plan of the watched loader's sampler weighs samples, and this hook was given no sampler: the loss is not "
            "weighted. LossHook(..., sampler=sampler) weighs it.",
            RuntimeWarning,
            stacklevel=2,
        )
