"""The loss hook: wraps a criterion, returns what the criterion returns, and records the scores of every sample."""

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.rows import checked_rows
from adaptive_sampler.torch.hook.call import made
from adaptive_sampler.torch.hook.denominator import Denominator
from adaptive_sampler.torch.hook.measuring import CriterionRecorder
from adaptive_sampler.torch.hook.outside import elsewhere, refuse_transforms, uncompiled
from adaptive_sampler.torch.hook.pending import Fresh
from adaptive_sampler.torch.hook.recorder import check_nonfinite
from adaptive_sampler.torch.hook.recording import Inside, Recording
from adaptive_sampler.torch.hook.tally import Tally
from adaptive_sampler.torch.hook.weighted import weighted
from adaptive_sampler.torch.hook.worn import CALLING, Worn, refuse_rows


class LossHook(Recording, Worn):
    """Wraps a criterion: `hook(input, target)` returns what `criterion` returns, and records the samples' scores.

    The rows of the samples come from `watch`, or from `rows=` in the call. What is recorded are the criterion's
    unreduced losses, before plan weights, and measures of the logits, as far as the store's scores need them.

    Without plan weights the criterion itself runs. With `sampler`, whose plans may give samples a loss weight, the
    value is Σ weight·ℓ divided by the denominator of the criterion's own mean.

    The hook behaves like the criterion, except for the names in `LossHook.NAMES`: every other attribute is read, set
    and deleted on the criterion, and parameters, buffers and state_dict are the criterion's.

    `nonfinite`: "skip" leaves out rows with a NaN or inf, counts them in `skipped`, warns once, and raises
    `InvalidValue` if they are more than the share `max_skipped` of (at least 1000) rows; "raise" raises `NotFinite` at
    the first of them.

    Raises `InvalidValue` for a criterion that is no nn.Module, that has an attribute named in `NAMES`, or whose
    `forward` has a parameter `rows`; and, with `sampler`, for a criterion without `reduction`.
    """

    NAMES = frozenset(("criterion", "store", "sampler", "watch", "claim", "forget", "again", "record")) | frozenset(
        ("record_outputs", "flush", "delivered", "epoch", "skipped", "effective_samples")
    )
    store: ScoreStore
    _adaptive_sampler: "_Private"

    def __init__(
        self,
        criterion: nn.Module,
        store: ScoreStore,
        *,
        sampler: AdaptiveSampler | None = None,
        nonfinite: Literal["skip", "raise"] = "skip",
        max_skipped: float = 0.1,
    ) -> None:
        check_nonfinite(nonfinite)
        if not isinstance(criterion, nn.Module):
            raise InvalidValue(
                f"criterion={criterion!r} is no torch.nn.Module. Use the module of that loss, such as nn.CrossEntropyLoss(), or "
                "compute it as you do and call hook.record(rows, ...)."
            )
        recorder = CriterionRecorder(store, nonfinite, Tally(max_skipped), criterion=criterion)
        super().__init__(criterion, _Private(recorder, criterion=criterion))
        refuse_rows(criterion)
        self.store = store
        self.sampler = sampler
        store.session.register(self)

    def forward(self, *given: Any, rows: Any = None, **named: Any) -> Any:
        """Call `criterion(*given, **named)`, and record the batch if gradients are enabled.

        The first argument is the model's output, (batch, …), or any nesting whose first tensor has that batch axis; the
        second is the target. The criterion gets all arguments unchanged. `rows` (batch,) integers: the rows of these
        samples; None for those of the watched batch. Raises `InvalidValue` if it is in doubt which rows these are, or
        if a score needs an input that the call does not have.
        """
        if torch.compiler.is_compiling():
            return uncompiled()(self.forward, given, rows, named)
        own, enabled = self._adaptive_sampler, torch.is_grad_enabled()
        if rows is None and not (enabled and (own.again == 0 or own.sampler is not None)):
            return own.criterion(*given, **named)
        refuse_transforms("hook.criterion(...)", "hook.record(rows, logits=..., labels=...)")
        call = made(own.criterion, given, named)
        fresh: Fresh
        if enabled:
            taken, fresh = own.pending.take(rows, call.length, count=own.again == 0)
        else:
            taken, fresh = checked_rows(rows, call.length), False
        weights = None if own.sampler is None else own.pending.weights(taken, own.sampler, watched=enabled)
        watch = losses = None
        if weights is not None and not (weights == 1).all():
            value, losses, watch = weighted(own.criterion, call, torch.from_numpy(weights), own.denominator)
        elif fresh is False:
            value = own.criterion(*given, **named)
        else:
            value, watch = own.recorder.run(call)
        if fresh is not False:
            own.applies(call.length, fresh, weights)
            own.recorder.observe(taken, fresh, call, value, losses, watch)
            if own.watched.unweighted and isinstance(value, torch.Tensor) and not value.ndim:
                own.watched.warn_unweighted()  # the loop can still weight losses that are not reduced
        return value

    def record(self, rows: Any, **observation: Any) -> None:
        """Record an observation of a loop that computes its losses elsewhere.

        `rows` (batch,) integers; `observation`: the arrays that the store's scores take, by name, each with a leading
        batch axis. Raises `InvalidValue` if `rows` is anything but one axis of integers, if no score takes these
        arrays, or if a score does not have one value per row.
        """
        own, whole = self._adaptive_sampler, checked_rows(rows, None)
        with torch.no_grad():
            own.recorder.send(whole, self.store.session.measure(**observation), None)
        own.applies(len(whole), True, None)

    def record_outputs(self, rows: Any, logits: torch.Tensor, labels: Any, losses: torch.Tensor | None = None) -> None:
        """Record what a call would record, for a training that computes the criterion's loss elsewhere.

        `rows` (batch,) integers; `logits` (batch, …) and `labels`: what the criterion takes; `losses` (batch,): the
        samples' losses, None if they are not known.
        """
        call = made(self.criterion, (logits, labels), {})
        own = self._adaptive_sampler
        own.recorder.observe(checked_rows(rows, call.length), True, call, None, losses, None)
        own.applies(call.length, True, None)

    @property
    def sampler(self) -> AdaptiveSampler | None:
        """The sampler whose plans weight the samples; None if nothing does."""
        return self._adaptive_sampler.sampler

    @sampler.setter
    def sampler(self, sampler: AdaptiveSampler | None) -> None:
        own = self._adaptive_sampler
        if sampler is not None and not hasattr(own.criterion, "reduction"):
            raise InvalidValue(
                f"sampler= weighs samples, and {type(own.criterion).__name__} has no `reduction` to take them apart by. Give it a "
                "reduction that may be 'none', or weigh the losses yourself: sampler.loss_weights(rows)."
            )
        own.sampler = sampler

    def __copy__(self) -> "LossHook":
        """A hook around a shallow copy of the criterion (copy.copy); store and sampler are shared."""
        twin = _twin(self, copy.copy(self.criterion))
        vars(twin).update(_listening(self))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> "LossHook":
        """A hook around a deep copy of the criterion; store and sampler are shared."""
        memo[id(self)] = twin = _twin(self, copy.deepcopy(self.criterion, memo))
        vars(twin).update(copy.deepcopy(_listening(self), memo))
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle the criterion, and the forward and backward hooks on this hook. Of the store only the path is kept."""
        named = {"nonfinite": self._adaptive_sampler.recorder.nonfinite}
        return elsewhere, (type(self), (self.criterion,), str(self.store.path), named), _listening(self)

    def __setstate__(self, listening: dict[str, Any]) -> None:
        vars(self).update(listening)


def _listening(hook: LossHook) -> dict[str, Any]:
    """The attributes in which nn.Module keeps the forward and backward hooks registered on a `LossHook`."""
    return {name: x for name, x in vars(hook).items() if name in CALLING and name != "_compiled_call_impl"}


def _twin(hook: LossHook, criterion: nn.Module) -> LossHook:
    """A new hook around `criterion`, with the other arguments of `hook`."""
    recorder = hook._adaptive_sampler.recorder
    return type(hook)(
        criterion,
        hook.store,
        sampler=hook.sampler,
        nonfinite=recorder.nonfinite,
        max_skipped=recorder.tally.max_skipped,
    )


@dataclass
class _Private(Inside):
    """The private state of a `LossHook`: the one attribute beside the criterion's."""

    recorder: CriterionRecorder
    criterion: nn.Module = field(kw_only=True)
    denominator: Denominator = field(default_factory=Denominator)
    deleted: Any = None  # the last parameter that was deleted through the hook; see `Worn`
