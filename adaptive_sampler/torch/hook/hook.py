"""The loss hook: wraps a criterion, returns what the criterion returns, and records the scores of every sample."""

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.rows import checked_rows
from adaptive_sampler.torch.hook.call import Call, made
from adaptive_sampler.torch.hook.denominator import Denominator
from adaptive_sampler.torch.hook.measuring import CriterionRecorder
from adaptive_sampler.torch.hook.miners import Miner
from adaptive_sampler.torch.hook.mining import Mining, check_miner, part_of, refuse_elsewhere
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

    `mine`: which samples of a batch are trained on, `OHEM` or `SelectiveBackprop`, or a `Miner` of your own; None for all. The
    value is then that of the chosen samples alone, as if they were the batch, and the gradients of the others are 0. All are
    recorded. See `select`, too, which saves the backward pass of the others.

    Raises `InvalidValue` for a `mine` that is no miner, for a criterion that is no nn.Module, that has an attribute named in
    `NAMES`, or whose `forward` has a parameter `rows`; and, with `sampler`, for a criterion without `reduction`.
    """

    NAMES = frozenset(("criterion", "store", "sampler", "watch", "claim", "forget", "again", "record")) | frozenset(
        ("record_outputs", "flush", "delivered", "epoch", "skipped", "effective_samples", "mine", "select")
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
        mine: Miner | None = None,
    ) -> None:
        check_nonfinite(nonfinite)
        check_miner(mine)
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
        self.mine = mine
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
        if rows is None and not (enabled and (own.again == 0 or own.sampler is not None or own.mining is not None)):
            return own.criterion(*given, **named)
        refuse_transforms("hook.criterion(...)", "hook.record(rows, logits=..., labels=...)")
        call = made(own.criterion, given, named)
        fresh: Fresh
        if enabled:
            taken, fresh = own.pending.take(rows, call.length, count=own.again == 0)
        else:
            taken, fresh = checked_rows(rows, call.length), False
        weights = None if own.sampler is None else own.pending.weights(taken, own.sampler, watched=enabled)
        if enabled and own.mining is not None:
            return own.mined(own.mining, call, taken, fresh, weights)
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
            if own.watched.unweighted:
                own.warn_unweighted(value)
        return value

    def select(self, *given: Any, rows: Any = None, **named: Any) -> torch.Tensor:
        """Record a batch, and choose which of its samples to train on -> their positions in it, (k,) int64, on their device.

        The arguments are those of a call, which may come from a forward pass without gradients; the loop then runs the model
        on the chosen samples alone, and so saves the backward pass of the others (Jiang et al. 2019, section 3):
        `hook.criterion(model(inputs[chosen]), labels[chosen])`. A second call on the same rows of a watched
        batch returns the same. Raises `InvalidValue` for a hook without `mine`, and as a call does.
        """
        if torch.compiler.is_compiling():
            chosen: torch.Tensor = uncompiled()(self.select, given, rows, named)
            return chosen
        own = self._adaptive_sampler
        if own.mining is None:
            raise InvalidValue("this hook has nothing to choose by: set hook.mine = OHEM(0.25), or make it with mine=.")
        refuse_transforms("hook.criterion(...)", "hook.select(...)")
        call = made(own.criterion, given, named)
        taken, fresh = own.pending.take(rows, call.length, count=own.again == 0)
        weights = None if own.sampler is None else own.pending.weights(taken, own.sampler, watched=True)
        before = own.mining.chosen_before(taken) if fresh is False else None
        found = own.choice(own.mining, call, taken, fresh)[0] if before is None else before
        if fresh is not False:
            own.applies(len(found), True, None if weights is None else weights[found.cpu().numpy()])
        return found

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
        refuse_elsewhere(self.mine)
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

    @property
    def mine(self) -> Miner | None:
        """What chooses the samples of a batch that are trained on; None for all. It may be set, as after a warm-up."""
        mining = self._adaptive_sampler.mining
        return None if mining is None else mining.miner

    @mine.setter
    def mine(self, mine: Miner | None) -> None:
        check_miner(mine)
        self._adaptive_sampler.mining = None if mine is None else Mining(mine)

    def __copy__(self) -> "LossHook":
        """A hook around a shallow copy of the criterion (copy.copy); store, sampler and miner are shared."""
        twin = _twin(self, copy.copy(self.criterion))
        vars(twin).update(_listening(self))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> "LossHook":
        """A hook around a deep copy of the criterion, with a copy of the miner; store and sampler are shared."""
        memo[id(self)] = twin = _twin(self, copy.deepcopy(self.criterion, memo))
        twin.mine = copy.deepcopy(self.mine, memo)
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
        mine=hook.mine,
    )


@dataclass
class _Private(Inside):
    """The private state of a `LossHook`: the one attribute beside the criterion's."""

    recorder: CriterionRecorder
    criterion: nn.Module = field(kw_only=True)
    denominator: Denominator = field(default_factory=Denominator)
    mining: Mining | None = None
    deleted: Any = None  # the last parameter that was deleted through the hook; see `Worn`

    def choice(self, mining: Mining, call: Call, rows: torch.Tensor, fresh: Fresh) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose samples of a call, and record all that are fresh -> (positions, (k,) int64; losses of all, (batch,))."""
        losses = mining.losses(self.criterion, call)
        chosen = mining.choose(self.criterion, call, losses, rows, rehearsal=self.recorder.store.session.rehearsal)
        if fresh is not False:
            self.recorder.observe(rows, fresh, call, None, losses, None)
        return chosen, losses

    def mined(self, mining: Mining, call: Call, rows: torch.Tensor, fresh: Fresh, weights: np.ndarray | None) -> Any:
        """What the criterion, weighed by the plan's `weights` (batch,), gives for the chosen samples of a call.

        A second call on a batch is on the samples that the first one chose; so it may be given these alone, and is then made as
        it is.
        """
        chosen, losses = (
            (mining.chosen_before(rows), None) if fresh is False else self.choice(mining, call, rows, fresh)
        )
        if chosen is not None:
            call = part_of(self.criterion, call, chosen, losses)
            weights = None if weights is None else weights[chosen.cpu().numpy()]
        weighs = weights is not None and not (weights == 1).all()
        if weighs:
            value = weighted(self.criterion, call, torch.from_numpy(weights), self.denominator)[0]
        else:
            value = call.on(self.criterion)
        if fresh is not False:
            self.applies(call.length, True, weights)
            if self.watched.unweighted:
                self.warn_unweighted(value)
        return value

    def warn_unweighted(self, value: Any) -> None:
        """Warn of a plan's weights that nobody applies; a loop can still weigh losses that are not reduced."""
        if isinstance(value, torch.Tensor) and not value.ndim:
            self.watched.warn_unweighted()
