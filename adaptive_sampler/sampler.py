"""The adaptive sampler: a seeded, resumable walk over plans that a policy makes from the scores in a store."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adaptive_sampler.arrays import as_rows
from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection import Policy
from adaptive_sampler.selection.base import is_policy
from adaptive_sampler.selection.composed import scores_of
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.walk.batches import Batches
from adaptive_sampler.walk.epochs import BlockedEpoch, PlannedEpoch
from adaptive_sampler.walk.iterators import BatchIterator, EpochIterator, Progress, SampleIterator
from adaptive_sampler.walk.planner import Planner, Replan, checked_replan
from adaptive_sampler.walk.resume import check_state, described, settings_of, whose
from adaptive_sampler.walk.rows import EpochRows
from adaptive_sampler.walk.shown import as_html, as_text
from adaptive_sampler.walk.turn import Turn, WholeEpoch


class AdaptiveSampler:
    """Yields the rows of the plan that `policy` makes from `store`, as Python ints; `shuffle` orders them by (seed, epoch).

    `warmup_epochs`: this many epochs keep every row. `replan`: "epoch" makes a plan for each epoch; "once" makes one plan
    after the warm-up, as soon as there are scores, and keeps it; an int k makes one for every k batches (iterate `batches`).
    `num_samples`: the length of every epoch; the shuffled plan is truncated or cycled to it. All ranks get the same rows.

    If an epoch has begun, the first draw of a new iterator begins the next one, so a plain loop reshuffles without
    `set_epoch`. A single draw begins an epoch. `epoch`, `plan`, `len` and `loss_weights` belong to the current epoch until
    `set_epoch` or the first draw of the next iterator. The first draw of an epoch fixes its plan and saves it in the store.
    """

    def __init__(
        self,
        store: ScoreStore,
        policy: Policy,
        *,
        seed: int = 0,
        shuffle: bool = True,
        warmup_epochs: int = 0,
        replan: Replan = "epoch",
        num_samples: int | None = None,
    ) -> None:
        self.store, self.policy = store, policy
        self.seed, self.shuffle = whole_number("seed", seed, 0), bool(shuffle)
        self.warmup_epochs = whole_number("warmup_epochs", warmup_epochs, 0)
        self.replan = checked_replan(replan, policy)
        self.num_samples = (
            None if num_samples is None else whole_number("num_samples", num_samples, 1, otherwise=" or None")
        )
        if not is_policy(policy):
            raise InvalidValue(f"policy={policy!r} has no plan method: pass one of adaptive_sampler.selection.")
        for unknown in set(scores_of(policy)).difference(store.names):
            store.count(unknown)  # raises `UnknownName`, which lists the scores
        self._planner = Planner(store, policy, self.seed, self.warmup_epochs, self.replan)
        self._planner.owner = weakref.ref(self)
        self._turn = Turn()

    # -- the walk -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        if isinstance(self.replan, int):
            raise InvalidValue(
                f"replan={self.replan} counts batches, which a sampler of single rows does not see. Give the DataLoader "
                "batch_sampler=sampler.batches(batch_size) instead of sampler= and batch_size=."
            )
        return SampleIterator.over(self)

    __repr__, _repr_html_ = as_text, as_html

    def __len__(self) -> int:
        """The samples of this epoch; with `replan=k`, as many as its first plan has."""
        if self._turn.length is not None:
            return self._turn.length
        return self.plan.num_samples if self.num_samples is None else self.num_samples

    def upcoming_length(self) -> int:
        """The samples of the epoch that the next iterator begins, by the present scores; nothing is begun or fixed.

        `len` is the current epoch's until then. After loading a state within an epoch: the whole of that epoch, of which
        the next iterator gives all but the first `start`. Raises `StoreError` on ranks with updates that wait for `sync`.
        """
        if not self._turn.next_goes_on:
            return len(self)
        return self.num_samples or self._planner.planned(self.epoch + 1).num_samples

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return self._planner.epoch

    @property
    def start(self) -> int:
        """The position at which this epoch's iterator began: 0, or where it was resumed."""
        return self._turn.start

    @property
    def drawn(self) -> int:
        """How many samples of this epoch were drawn, including those before a resume."""
        return self._turn.drawn

    @property
    def plan(self) -> Plan:
        """The current epoch's plan; before its first draw, the plan that the present scores would give."""
        return self._planner.plan

    @property
    def fixed_plan(self) -> Plan | None:
        """The current epoch's plan, or None while it may still change."""
        return self._planner.fixed

    @property
    def walking(self) -> PlannedEpoch | BlockedEpoch | None:
        """The current epoch's rows by position, or None before its first draw. For code that counts delivered rows."""
        return self._turn.walking

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of `epoch`.

        If `epoch` is the current one and has not begun, nothing changes: a loaded position stays. If it has begun, the next
        iterator walks it again, as with torch's samplers (Lightning and Composer call `iter` twice in an epoch).

        Raises `ResumeError` directly after loading a state of another epoch that has rows left. An iterator that has begun
        another epoch raises at its next draw.
        """
        epoch, turn = whole_number("epoch", epoch, 0), self._turn
        if epoch == self.epoch:
            turn.again = turn.active is not None
            if turn.again and self._planner.outdated:
                turn.end_as_outdated(epoch)
            return
        if turn.start and turn.active is None and not turn.nothing_left:
            raise ResumeError(
                f"set_epoch({epoch}) after loading a state at sample {turn.start} of epoch {self.epoch}: that epoch is not "
                f"over. Resume the loop at epoch {self.epoch}, or start afresh with a new sampler."
            )
        if turn.active is not None:
            turn.active.invalidate(
                f"this iterator began epoch {self.epoch}, and then set_epoch({epoch}) was called: rows of two epochs would "
                f"mix. Call set_epoch before iter(loader); when resuming, load_state_dict before it."
            )
        self._turn_to(epoch)

    def begin(self, iterator: EpochIterator) -> PlannedEpoch | BlockedEpoch:
        """Fix the plan of the epoch that `iterator` begins, and return the epoch's rows. For iterators."""
        return self.begin_by(iterator.place, iterator)

    def begin_by(self, progress: Progress, iterator: EpochIterator | None = None) -> PlannedEpoch | BlockedEpoch:
        """As `begin`, for anything that has a `Progress`; `iterator`: the iterator that draws, if one does."""
        if self._turn.goes_on(iterator):
            self._turn_to(self.epoch + 1)
        # Of a plan for each block, the first is made when its first row is drawn.
        size = iterator.batch_size if isinstance(self.replan, int) and isinstance(iterator, BatchIterator) else 0
        plan = None if size else self._planner.fix()
        turn, length = self._turn, len(self)
        turn.warn_of_repeats(self.epoch, length)
        walk: dict[str, Any] = {"seed": self.seed, "shuffle": self.shuffle, "length": length, "start": turn.start}
        if plan is not None:
            self._planner.made.begin(plan)
        walking: PlannedEpoch | BlockedEpoch = (
            self._blocked(int(self.replan) * size, walk) if plan is None else PlannedEpoch(plan, self.epoch, **walk)
        )
        turn.begun(progress, walking)
        self.store.session.clock.enter(self, self.epoch, walking.start)
        self.store.session.begin_pass(self)
        return walking

    def _blocked(self, rows: int, walk: dict[str, Any]) -> BlockedEpoch:
        walk |= {"block": rows, "mark": self._turn.mark(rows), "plans": self._planner.made.plans}
        return BlockedEpoch(self._planner.fix_block, self.epoch, n=len(self.store), **walk)

    def epoch_rows(self) -> EpochRows:
        """This whole epoch as a sequence, for loaders that index rows instead of iterating; it counts as fully walked.

        The next call begins the next epoch, as does the next iterator. Raises `InvalidValue` with `replan=k`.
        """
        if isinstance(self.replan, int):
            raise InvalidValue(
                f"replan={self.replan}: an epoch known at once has one plan. Use replan='epoch' or 'once'."
            )
        whole = WholeEpoch()
        epoch = self.begin_by(whole)
        whole.position = len(epoch)
        walk = {"number": epoch.number, "seed": self.seed, "shuffle": self.shuffle, "length": len(epoch)}
        return EpochRows(self.store.session.opener(ScoreStore.open), self.plan, walk | {"start": epoch.start})

    def batches(self, batch_size: int, *, drop_last: bool = False, arrays: bool = False) -> Batches:
        """A batch sampler over this sampler: lists of `batch_size` rows, made faster than torch's; see `Batches`."""
        return Batches(self, batch_size, drop_last, arrays)

    def loss_weights(self, rows: Any) -> np.ndarray:
        """The loss weights of `rows`, (batch,), as (batch,) float32. Raises `RowError` for a row not in the plan.

        With `replan=k` all weights are 1: a loader holds batches of several plans at once, so these may not weigh samples.
        """
        checked = as_rows(rows, len(self.store))
        weights = self.weights_or_none(checked)
        return np.ones(len(checked), np.float32) if weights is None else weights

    def weights_or_none(self, rows: Any) -> np.ndarray | None:
        """As `loss_weights`, but None where the plan weighs no row: no array is made then. For loops, which ask at every step."""
        return None if isinstance(self.replan, int) else self.plan.weights_or_none(rows)

    # -- resuming -----------------------------------------------------------------------------------------------------

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """Where the walk is, as JSON data: numbers, settings, and the ids of plans.

        Save it before you draw again: its list of plans grows when another plan is made in this epoch, because a loader
        takes states before it delivers the batches.

        `delivered`: how many samples of the epoch the loop was given (of this rank, on ranks). None: count those that were
        drawn, which are more if the loader has workers. Raises `InvalidValue` for a number that cannot have been delivered.

        While a loop holds the last batch of an epoch, the state is the end of that epoch: after a resume comes a pass
        without samples, then the next epoch. Once the loop is over, the state is the beginning of the next epoch.
        """
        turn = self._turn
        if delivered is None:
            return self.state_after() if turn.was_left(self.drawn) else self.state_of(turn.walking, self.drawn)
        position = whole_number("delivered", delivered, 0)
        if not turn.over:  # before the first draw, all was delivered before the resume
            position = max(position, turn.start) if turn.active is None else turn.active.reached(position)
        if not turn.over and not self.start <= position <= self.drawn:
            raise InvalidValue(
                f"delivered={delivered}: epoch {self.epoch} was begun at sample {self.start} and drawn up to {self.drawn}. Count "
                "the samples of the epoch, those before a resume included, as LossHook.delivered does."
            )
        state = self.state_after() if turn.is_over(position) else self.state_of(turn.walking, position)
        return state | {"counts": "delivered"}

    def state_of(self, epoch: PlannedEpoch | BlockedEpoch | None, position: int) -> dict[str, Any]:
        """The state of a walk at `position` of `epoch`; None: the epoch has not begun. For iterators."""
        turn, made = self._turn, self._planner.state()
        if epoch is None and turn.goes_on(None):
            return self.state_after()
        here, at = (turn.block, turn.start) if epoch is None else (epoch.state(position), position)
        walk = {"epoch": self.epoch, "position": at, "length": turn.length, **made, **here}
        return described(walk, settings_of(self), self.store)

    def state_after(self) -> dict[str, Any]:
        """The state once the loop over this epoch has ended, early or not: the start of the next epoch. For loops."""
        walk = {"epoch": self.epoch + 1, "position": 0, **self._planner.state(upcoming=True)}
        return described(walk, settings_of(self), self.store)

    @property
    def progress(self) -> Progress | None:
        """How far the current epoch was drawn, and which rows come next; None before its first draw. For loops."""
        return self._turn.active

    def restart(self) -> None:
        """Forget that this epoch has begun, if a loader drew from it before the loop began. For loops."""
        if (turn := self._turn).active is None:
            return
        turn.active.invalidate("the loader was begun again before its first batch: iterate it anew.")
        self._planner.unfix()
        self._turn = Turn(turn.start, turn.length if self._planner.fixed is not None else None, turn.block)

    def when_nothing_is_left(self, act: Callable[[], None]) -> None:
        """Call `act` when a pass begins that has no samples, because the loaded state is the end of an epoch. For loops
        that do not count such a pass as an epoch."""
        self._turn.when_empty = act

    def note_loop(self, *, over: bool = False) -> None:
        """Note that the loop reports its own end. `over`: it has ended, maybe before the plan (`drop_last`). For loops."""
        self._turn.over = over

    def resumed_by(self, iterator: EpochIterator) -> None:
        """Note that the state was loaded through this iterator's `load_state_dict`. For iterators."""
        self._turn.resumed_by(iterator)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`. Raises `ResumeError` for the state of another store, policy, seed, length or commit."""
        check_state(state, settings_of(self), self.store)
        stale, epoch = self._turn.active, int(state["epoch"])
        own = self.num_samples is None and not isinstance(self.replan, int)  # an epoch is as long as its plan
        self._planner.resume(epoch, state["plans"], state["once"], state.get("length") if own else None)
        if stale is not None:
            stale.invalidate("load_state_dict was called after this iterator began. Make a new one with iter().")
        block: dict[str, Any] = {name: state[name] for name in ("block", "mark") if name in state}
        self._enter(Turn(int(state["position"]), state.get("length"), block))

    def whose(self) -> str:
        """A text that only samplers of the same settings have in common. For commits."""
        return whose(settings_of(self))

    def _turn_to(self, epoch: int) -> None:
        self._planner.turn_to(epoch)
        self._enter(Turn())

    def _enter(self, turn: Turn) -> None:
        self._turn = turn
        self.store.session.clock.enter(self, self.epoch)
