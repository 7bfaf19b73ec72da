"""The loss hook: the criterion as before, and every sample's scores recorded on the way."""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue, NotFinite
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.scoring.measures import cross_entropy
from adaptive_sampler.scoring.one_pass import at_hand
from adaptive_sampler.scoring.sharing import shared
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.chain import find_sampler
from adaptive_sampler.torch.reduction import is_cross_entropy, per_sample, weighted
from adaptive_sampler.torch.rows import PendingRows, row_key, split, tensor_of
from adaptive_sampler.torch.transfer import Step, Transfer

_ENOUGH = 1000  # rows before the share of skipped ones is judged


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
        self._nonfinite, self._max_skipped = nonfinite, max_skipped
        self._criterion: nn.Module
        self._pending, self._transfer = PendingRows(), Transfer()
        self._tally, self._watched = _Tally(), 0
        self.delivered = 0
        store.register(self)

    def forward(self, input: torch.Tensor, target: Any, rows: Any = None) -> torch.Tensor:
        """The criterion's value for `input` (batch, …) and `target`; records the batch if gradients are on.

        `rows` (batch,): which rows these samples are; from `watch` where None. Raises `InvalidValue` where the rows
        are in doubt.
        """
        taken: torch.Tensor | None
        if torch.is_grad_enabled():
            taken = self.claim(len(input)) if rows is None else _rows(rows, len(input))
        else:
            taken = None if rows is None else _rows(rows, len(input))
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
        return value  # type: ignore[no-any-return]

    def watch(self, loader: Any) -> Iterator[Any]:
        """The samples of a loader over an `IndexedDataset`; their rows are kept for the one following call.

        It must be the outermost iterator. One pass is one epoch of the store's clock, unless a sampler sets it.
        """
        owner = object()
        self._pending.expect(owner)
        return self._watching(loader, row_key(loader), owner)

    def _watching(self, loader: Any, key: str | None, owner: object) -> Iterator[Any]:
        sampler = find_sampler(loader) if self.sampler is None else self.sampler
        if sampler is None and self._watched:
            self.store.epoch += 1
        self._watched += 1
        self.delivered = 0
        try:
            for rows, sample in split(loader, key):
                if self.delivered == 0 and sampler is not None:
                    self.delivered = sampler.start
                self.delivered += len(rows)
                self.store.delivered = self.delivered
                self._pending.put(rows, owner)
                yield sample
        finally:
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
            self._send(_rows(rows, None), self.store.measure(**observation), None)

    def flush(self) -> None:
        """Fold everything recorded so far into the store, waiting for the device if need be."""
        for step in self._transfer.receive(wait=True):
            self._fold(step)

    @property
    def criterion(self) -> nn.Module:
        """The criterion."""
        return self._criterion

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
            max_skipped=self._max_skipped,
        )
        memo[id(self)] = twin
        return twin

    def _observe(
        self,
        rows: torch.Tensor,
        input: torch.Tensor,
        target: Any,
        value: torch.Tensor,
        losses: torch.Tensor | None,
    ) -> None:
        logits, valid = input.detach(), None
        observation = {"logits": logits, "labels": target}
        with shared():
            if _single(target, getattr(self.criterion, "ignore_index", None)):
                ignored, labels = self.criterion.ignore_index, at_hand(target)
                if not isinstance(labels, np.ndarray):  # looking at a GPU would wait for it
                    valid = target != ignored
                elif ignored in labels or target.dtype is torch.bool:
                    valid = torch.from_numpy(labels != ignored)
                if valid is not None:
                    observation["labels"] = torch.where(valid, target, 0)
            # A score of the loss takes it of the softmax that the measures share, where the criterion has that loss.
            if losses is not None or not is_cross_entropy(self.criterion, logits, target):
                if self.store.takes("loss"):
                    losses = per_sample(self.criterion, logits, target, value, losses)
            elif self.store.takes("loss", instead_of_logits=True):
                losses = torch.as_tensor(cross_entropy(at_hand(logits), at_hand(observation["labels"])))
            observation |= {} if losses is None else {"loss": losses.detach()}
            values = self.store.measure(**observation)
        self._send(rows, values, valid)

    def _send(self, rows: torch.Tensor, values: dict[str, Any], valid: torch.Tensor | None) -> None:
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
            self._count_skipped(len(rows), int(finite.sum()))
            if finite.any():
                kept = np.ascontiguousarray(values[:, finite])
                self.store.fold_matrix(rows[finite], step.names, kept, step.epoch)

    def _count_skipped(self, rows: int, finite: int) -> None:
        tally = self._tally
        if not tally.skipped:
            warnings.warn(
                f"{rows - finite} of {rows} observations have a value that is not finite; they are not recorded. "
                "LossHook.skipped counts them; nonfinite='raise' stops at the first.",
                RuntimeWarning,
                stacklevel=2,
            )
        tally.seen += rows
        tally.skipped += rows - finite
        if tally.seen >= _ENOUGH and tally.skipped > self._max_skipped * tally.seen:
            raise InvalidValue(
                f"{tally.skipped} of {tally.seen} observations were not finite, more than max_skipped={self._max_skipped}: the "
                "training has likely diverged. Lower the learning rate, or raise max_skipped."
            )


@dataclass
class _Tally:
    """Apart from the hook, because torch's modules take a while to set an attribute."""

    seen: int = 0  # observations, those left out too
    skipped: int = 0


def _single(target: Any, ignore: Any) -> bool:
    """Whether `target` has one class a sample, and the criterion a class that it leaves out."""
    if ignore is None or not isinstance(target, torch.Tensor):
        return False
    return target.ndim == 1 and not target.is_floating_point()


def _rows(given: Any, length: int | None) -> torch.Tensor:
    rows = tensor_of(given)
    if rows.dtype is torch.int64 and rows.shape == (length,):
        return rows
    if rows.ndim != 1 or rows.is_floating_point() or rows.dtype == torch.bool:
        raise InvalidValue(
            f"rows have shape {tuple(rows.shape)} and dtype {rows.dtype}: one axis of integers is needed."
        )
    if length is not None and len(rows) != length:
        raise InvalidValue(f"{len(rows)} rows for {length} samples: one row a sample is needed.")
    whole: torch.Tensor = rows.to(torch.int64)
    return whole
