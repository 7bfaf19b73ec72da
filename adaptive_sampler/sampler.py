"""The adaptive sampler: a seeded, resumable walk over plans that a policy makes from the scores in a store."""

import os
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from adaptive_sampler.arrays import as_rows
from adaptive_sampler.epochs import BlockedEpoch, PlannedEpoch
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.selection import KeepAll, Policy
from adaptive_sampler.selection.base import describe
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.walk import BatchIterator, SampleIterator

Replan = Literal["epoch", "once"] | int


class AdaptiveSampler:
    """Yields rows, as Python ints, in the order (seed, epoch) of the plan that `policy` makes from `store`.

    `warmup_epochs`: so many epochs keep everything. `replan`: "epoch" plans anew at each epoch, "once" after warm-up,
    when there are scores, and never again; an int plans for each block of so many batches (iterate `batches`).
    `num_samples`: a constant length; the shuffled plan is truncated or cycled to it. The same stream on every rank.

    A fresh iterator drawn from after another one begins the next epoch, so a plain loop reshuffles without `set_epoch`;
    one draw counts as an epoch. `epoch`, `plan`, `len` and `loss_weights` stay on an epoch until `set_epoch` or the first
    draw of the next iterator. An epoch's plan is fixed and saved in the store at its first draw.
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
        self.seed, self.shuffle = _whole("seed", seed, 0), bool(shuffle)
        self.warmup_epochs = _whole("warmup_epochs", warmup_epochs, 0)
        self.replan = replan if replan in ("epoch", "once") else _whole("replan", replan, 1, " or 'epoch' or 'once'")
        self.num_samples = None if num_samples is None else _whole("num_samples", num_samples, 1, " or None")
        if not isinstance(policy, Policy):
            raise InvalidValue(f"policy={policy!r} has no plan method: pass one of adaptive_sampler.selection.")
        by = getattr(policy, "by", None)
        if by is not None and by not in store.names:
            store.count(by)  # raises, with the scores that there are
        self._epoch, self._start = 0, 0
        self._active: SampleIterator | BatchIterator | None = None  # the iterator that has begun this epoch
        self._walking: PlannedEpoch | BlockedEpoch | None = None
        self._length: int | None = None  # of an epoch that has begun, or was loaded
        self._block: dict[str, Any] = {}  # what a loaded state says of the block it lies in
        self._plan: Plan | None = None  # of this epoch; fixed once an iterator has begun it
        self._seen: MadeFrom | None = None  # the scores that `_plan` was made from, while it may still change
        self._once: Plan | None = None
        self._unpickled = False

    # -- the walk -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        if isinstance(self.replan, int):
            raise InvalidValue(
                f"replan={self.replan} counts batches, which a sampler of single rows does not see. Give the DataLoader "
                "batch_sampler=sampler.batches(batch_size) instead of sampler= and batch_size=."
            )
        return SampleIterator.over(self)

    def __len__(self) -> int:
        """Samples in this epoch; with `replan=k` as many as its first plan has."""
        if self._length is not None:
            return self._length
        return self.plan.num_samples if self.num_samples is None else self.num_samples

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return self._epoch

    @property
    def start(self) -> int:
        """The position at which this epoch's iterator began: 0, or where it was resumed."""
        return self._start if self._walking is None else self._walking.start

    @property
    def plan(self) -> Plan:
        """The current epoch's plan. Before its first draw, the plan that the scores as they are would give."""
        if self._plan is None or (self._seen is not None and self._seen != self.store.made_from):
            self._seen = self.store.made_from
            self._plan = self._make_plan()
        return self._plan

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of `epoch`; the current or loaded epoch keeps its position.

        Raises `ResumeError` straight after a mid-epoch state of another epoch was loaded. An iterator that has begun
        another epoch raises at its next draw.
        """
        epoch = _whole("epoch", epoch, 0)
        if epoch == self._epoch:
            return
        if self._start:
            raise ResumeError(
                f"set_epoch({epoch}) after loading a state at sample {self._start} of epoch {self._epoch}: that epoch is not "
                f"over. Resume the loop at epoch {self._epoch}, or start afresh with a new sampler."
            )
        if self._active is not None:
            self._active.invalidate(
                f"this iterator began epoch {self._epoch}, and then set_epoch({epoch}) was called: rows of two epochs would "
                f"mix. Call set_epoch before iter(loader); when resuming, load_state_dict before it."
            )
        self._turn_to(epoch)

    def begin(self, iterator: SampleIterator | BatchIterator) -> PlannedEpoch | BlockedEpoch:
        """Fix the plan of the epoch that `iterator` begins. For iterators."""
        if self._active is not None:
            self._turn_to(self._epoch + 1)
        self._length = len(self)
        walk: dict[str, Any] = {
            "seed": self.seed,
            "shuffle": self.shuffle,
            "length": self._length,
            "start": self._start,
        }
        if isinstance(self.replan, int) and isinstance(iterator, BatchIterator):
            self._walking = self._blocked(self.replan * iterator.batch_size, walk)
        else:
            self._walking = PlannedEpoch(self._fix_plan(), self._epoch, **walk)
        self._active, self._start, self._block = iterator, 0, {}
        self.store.epoch = self._epoch
        return self._walking

    def _blocked(self, rows: int, walk: dict[str, Any]) -> BlockedEpoch:
        if rows != self._block.get("block", rows):
            raise ResumeError(
                f"the state was saved with blocks of {self._block['block']} rows, replan={self.replan} batches are now {rows}: "
                "resume with the batch size it had."
            )
        mark: Any = tuple(self._block.get("mark", (0, 0, 0)))
        resumed = self._plan if self._block.get("plan") else None
        return BlockedEpoch(
            self._next_plan, self._epoch, n=len(self.store), block=rows, mark=mark, plan=resumed, **walk
        )

    def _next_plan(self) -> Plan:
        """A plan from the scores as they are now, fixed and saved."""
        self._plan, self._seen = self._make_plan(), self.store.made_from
        if self._plan.weighted:
            raise InvalidValue(
                f"replan={self.replan} with {type(self.policy).__name__}, whose plans weigh the loss: a row's weight would change "
                "while its batch is on the way. Use replan='epoch', or a policy without loss weights."
            )
        return self._fix_plan()

    def batches(self, batch_size: int, *, drop_last: bool = False) -> "Batches":
        """A batch sampler over this sampler: lists of `batch_size` rows, faster than torch's."""
        return Batches(self, batch_size, drop_last)

    def loss_weights(self, rows: Any) -> np.ndarray:
        """The plan's loss weights of `rows` (batch,) -> (batch,) float32. Raises `RowError` for rows not in the plan."""
        return self.plan.weights_of(as_rows(rows, len(self.store)))

    # -- resuming -----------------------------------------------------------------------------------------------------

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """Where the walk is: a few JSON scalars.

        Counts the samples of the epoch that were drawn, or, where given, those that were `delivered`: a loader with
        workers has drawn more than it has delivered.
        """
        if self._active is None:
            return self.state_of(None, self._start)
        return self.state_of(
            self._walking, self._active.position if delivered is None else _whole("delivered", delivered, 0)
        )

    def state_of(self, epoch: PlannedEpoch | BlockedEpoch | None, position: int) -> dict[str, Any]:
        """The state of a walk. The end of an epoch is the beginning of the next. For iterators."""
        number = self._epoch if epoch is None else epoch.number
        walk: dict[str, Any] = {"plan": None if self._once is None else self._once.id}
        if epoch is None and position:  # loaded, not yet gone on from
            walk = {"length": self._length, "plan": None if self._plan is None else self._plan.id, **self._block}
        elif epoch is not None and position >= len(epoch):
            number, position = number + 1, 0
        elif epoch is not None:
            walk = {"length": len(epoch), **epoch.state(position)}
        return {
            "format": 1,
            "epoch": number,
            "position": position,
            **walk,
            "store": self.store.uuid,
            "commit": self.store.version,
            **self._settings(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`. Raises `ResumeError` for the state of another store, policy, seed, length or commit."""
        self._check_state(state)
        plan = None if state["plan"] is None else self._load_plan(state["plan"])
        if self._active is not None:
            self._active.invalidate("load_state_dict was called after this iterator began. Make a new one with iter().")
        self._turn_to(int(state["epoch"]))
        self._start, self._length = int(state["position"]), state.get("length")
        self._block = {name: state[name] for name in ("plan", "block", "mark") if "block" in state}
        if plan is not None:
            self._plan, self._seen = plan, None
            if self.replan == "once" and self._epoch >= self.warmup_epochs and plan.policy != describe(KeepAll()):
                self._once = plan

    def _check_state(self, state: dict[str, Any]) -> None:
        missing = {"format", "epoch", "position", "plan", "store", "commit"} - set(state)
        if missing or state["format"] != 1:
            raise ResumeError(
                f"no sampler state of this version: {sorted(missing) or state['format']} in it is not known."
            )
        ours = {"store": self.store.uuid, **self._settings()}
        for name, value in ours.items():
            if state.get(name) != value:
                raise ResumeError(
                    f"the state was saved with {name}={state.get(name)!r}, this sampler has {name}={value!r}: it would walk "
                    "other rows. Make the sampler as it was, or start without the state."
                )
        older, newer = self.store.version < state["commit"], self.store.committed_epoch > state["epoch"]
        if older or newer:
            raise ResumeError(
                f"the state was saved at commit {state['commit']} in epoch {state['epoch']}, the store is open at commit "
                f"{self.store.version} of epoch {self.store.committed_epoch}: its scores are others. Open it with "
                f"ScoreStore.open(path, version={state['commit']})."
            )

    def _load_plan(self, plan_id: str) -> Plan:
        try:
            return self.store.plan(plan_id)
        except KeyError as error:
            raise ResumeError(f"the state needs plan {plan_id}: {error}") from error

    def _settings(self) -> dict[str, Any]:
        return {
            "n": len(self.store),
            "policy": describe(self.policy),
            "seed": self.seed,
            "shuffle": self.shuffle,
            "warmup_epochs": self.warmup_epochs,
            "replan": self.replan,
            "num_samples": self.num_samples,
        }

    # -- plans --------------------------------------------------------------------------------------------------------

    def _turn_to(self, epoch: int) -> None:
        self._epoch, self._start = epoch, 0
        self._active = self._walking = self._plan = self._seen = self._length = None
        self._block = {}
        self.store.epoch = epoch

    def _fix_plan(self) -> Plan:
        """This epoch's plan, from now on unchanging and saved."""
        plan = self.plan
        if self._seen is not None:
            self._seen = None
            if not self._unpickled:
                self.store.save_plan(plan)
            if self.replan == "once" and self._ready():
                self._once = plan
        return plan

    def _make_plan(self) -> Plan:
        if self._unpickled:
            raise ResumeError(
                f"a worker process (pid {os.getpid()}) asks for a new plan: its scores are those of the last commit. Plan in the "
                "trainer (draw from the sampler there) and pickle the sampler after that."
            )
        if self._epoch < self.warmup_epochs:
            return KeepAll().plan(self.store, epoch=self._epoch, seed=self.seed)
        if self._once is not None:
            return self._once
        return self.policy.plan(self.store, epoch=self._epoch, seed=self.seed)

    def _ready(self) -> bool:
        """Whether the policy had scores to plan by."""
        by = getattr(self.policy, "by", None)
        return self._epoch >= self.warmup_epochs and (by is None or self.store.observed(by) > 0)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: the store by its path, the fixed plan by its id."""
        plan = self._fix_plan()
        fixed = {"_active": None, "_walking": None, "_seen": None, "_unpickled": True, "_plan": plan.id, "_once": None}
        return self.__dict__ | fixed

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._plan = self.store.plan(state["_plan"])


class Batches:
    """Batches of a sampler's rows, for `DataLoader(batch_sampler=...)` or any loop. One pass is one epoch."""

    def __init__(self, sampler: AdaptiveSampler, batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(sampler, AdaptiveSampler):
            raise InvalidValue(
                f"sampler={sampler!r} is none of ours: the selection would be lost. A framework may have replaced it; pass "
                "an AdaptiveSampler, and tell the framework to leave the sampler alone (Lightning: use_distributed_sampler=False)."
            )
        self.sampler, self.drop_last = sampler, bool(drop_last)
        self.batch_size = _whole("batch_size", batch_size, 1)

    def __iter__(self) -> BatchIterator:
        return BatchIterator(self.sampler, self.batch_size, self.drop_last)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """As the sampler's."""
        self.sampler.set_epoch(epoch)

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """As the sampler's."""
        return self.sampler.state_dict(delivered=delivered)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the sampler's."""
        self.sampler.load_state_dict(state)


def _whole(name: str, value: Any, least: int, alternative: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidValue(f"{name}={value!r}: a whole number, {least} or more{alternative}.")
    return int(value)
