"""Which plan an epoch has: made from the scores until it is fixed, then kept, saved, and named in every state."""

import os
import warnings
import weakref
from collections import deque
from typing import Any, Literal

from adaptive_sampler.errors import InvalidValue, ResumeError, StoreError
from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.selection import KeepAll, Policy
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.walk.epochs import AHEAD

Replan = Literal["epoch", "once"] | int


class Made:
    """The ids of the plans fixed since a state was taken, as lists that states share and that grow when a plan is fixed.

    `StatefulDataLoader` takes a state when a batch is drawn, or before, and hands it out when the batch is delivered:
    plans fixed in between are part of what it needs.
    """

    def __init__(self, plans: list[str] | None = None, once: list[str] | None = None) -> None:
        self.plans, self.once = plans or [], once or []

    def state(self) -> dict[str, list[str]]:
        """For a sampler's state: these very lists."""
        return {"plans": self.plans, "once": self.once}


class Planner:
    """The plans of a sampler, one epoch (or block) after the other."""

    def __init__(self, store: ScoreStore, policy: Policy, seed: int, warmup_epochs: int, replan: Replan) -> None:
        self.store, self.policy, self.seed = store, policy, seed
        self.warmup_epochs, self.replan = warmup_epochs, replan
        self.epoch = 0
        self.made, self.upcoming = Made(), Made()  # of this epoch, of the next one
        self._plan: Plan | None = None
        self._seen: MadeFrom | None = None  # the scores that `_plan` was made from, while it may still change
        self._once: Plan | None = None
        self._unpickled = self._warned = False
        self.owner: weakref.ref[Any] | None = None  # the sampler that these are the plans of
        self._fixed_from: MadeFrom | None = (
            None  # the scores that this epoch's plan was made from, if it was fixed here
        )
        self._loaded: list[str] = []  # the plans of this epoch that a state named
        # This epoch's plans, the newest blocks' only: states are of blocks no more than so many behind.
        self._recent: deque[str] = deque(maxlen=AHEAD + 1)
        store.session.planners.add(self)

    @property
    def plan(self) -> Plan:
        """This epoch's plan; until it is fixed, the one that the scores as they are would give."""
        if self._plan is None or (self._seen is not None and self._seen != self.store.made_from):
            self._seen = self.store.made_from
            self._plan = self._make()
        return self._plan

    @property
    def fixed(self) -> Plan | None:
        """This epoch's plan once it can no longer change."""
        return None if self._seen is not None else self._plan

    @property
    def outdated(self) -> bool:
        """Whether the scores have moved since this epoch's plan was made from them and fixed."""
        if self._fixed_from is None:
            return False
        try:
            return self.store.made_from != self._fixed_from
        except StoreError:  # on ranks: what they observed since is not shared, and can be in no plan
            return False

    @property
    def in_force(self) -> list[str]:
        """The ids of the plans that a state taken now may name."""
        return [*self.made.once, *self._recent]

    def fix(self) -> Plan:
        """This epoch's plan, from now on unchanging and saved."""
        plan = self.plan
        if self._seen is not None:
            if not self._unpickled:
                self.store.session.save_plan(plan)
            self._warn_if_unfed()
            self._fixed_from, self._seen = None if plan is self._once else self._seen, None
            self._recent.append(plan.id)
            if self.replan == "once" and self._once is None and self._ready():
                self._once = plan
                for made in (self.made, self.upcoming):
                    made.once.append(plan.id)
        return plan

    def unfix(self) -> None:
        """Take back what `fix` did in this epoch, but for the plans that a state named."""
        if self._once is not None and self._once.id in self._recent and self._once.id not in self._loaded:
            self._once = None
            for made in (self.made, self.upcoming):
                made.once.clear()
        self.made.plans[:] = self._loaded
        self._recent.clear()
        self._recent.extend(self._loaded)
        self._plan, self._seen = (self.saved(self._loaded[0]) if self._loaded else None), None
        self._fixed_from = None

    def fix_block(self, made: str | None) -> Plan:
        """The next block's plan: the one that was `made` before a resume, or one from the scores as they are now."""
        if made is not None:
            self._plan, self._seen = self.saved(made), None
        elif self._seen is None:
            self._plan = None
        plan = self.fix()
        if plan.weighted:
            raise InvalidValue(
                f"replan={self.replan} with {self.policy}, whose plans weigh the loss: batches of several plans are in flight, "
                "so a weight could be another plan's. Use replan='epoch'."
            )
        return plan

    def turn_to(self, epoch: int) -> None:
        """Leave this epoch's plan."""
        once = [] if self._once is None else [self._once.id]
        self.made = self.upcoming if epoch == self.epoch + 1 else Made()
        self.made.once[:] = once
        self.upcoming = Made(once=list(once))
        self.epoch, self._plan, self._seen, self._fixed_from, self._loaded = epoch, None, None, None, []
        self._recent.clear()

    def resume(self, epoch: int, plans: list[str], once: list[str]) -> None:
        """Take up the plans that a state names. Raises `ResumeError`."""
        loaded = self.saved(plans[0], epoch) if plans else None
        self._once = self.saved(once[0], epoch) if once else None
        self.turn_to(epoch)
        self.made.plans[:] = self._loaded = list(plans)
        self._recent.extend(plans)
        self._plan = loaded

    def saved(self, plan_id: str, epoch: int | None = None) -> Plan:
        """A plan from the store; from a store that is open to read only, made once more as of `epoch` or one before."""
        try:
            return self.store.plan(plan_id)
        except KeyError as error:
            if self.store.mode == "r":
                for at in range(self.epoch if epoch is None else epoch, -1, -1):
                    policy = KeepAll() if at < self.warmup_epochs else self.policy
                    plan = policy.plan(self.store, epoch=at, seed=self.seed)
                    if plan.id == plan_id:
                        return plan
            raise ResumeError(f"the state needs plan {plan_id}: {error}") from error

    def _make(self) -> Plan:
        if self._unpickled:
            raise ResumeError(
                f"a worker process (pid {os.getpid()}) asks for a new plan: its scores are those of the last commit. Plan in the "
                "trainer (draw from the sampler there) and pickle the sampler after that."
            )
        if self.epoch < self.warmup_epochs:
            return KeepAll().plan(self.store, epoch=self.epoch, seed=self.seed)
        if self._once is not None:
            return self._once
        return self.policy.plan(self.store, epoch=self.epoch, seed=self.seed)

    def _warn_if_unfed(self) -> None:
        """Say once that the policy waits for a score: a first epoch has none, any other has after a warm-up that fed it."""
        by = getattr(self.policy, "by", None)
        if self._warned or by is None or self.epoch < max(self.warmup_epochs, 1) or self.store.observed(by):
            return
        self._warned = True
        warnings.warn(
            f"epoch {self.epoch} keeps every row: {self.policy} goes by {by!r}, and no row of it was observed. It takes "
            f"{self.store.session.inputs(by)}: have the training give the store that, or go by a score that it feeds.",
            RuntimeWarning,
            stacklevel=2,
        )

    def _ready(self) -> bool:
        """Whether the policy had scores to plan by."""
        by = getattr(self.policy, "by", None)
        return self.epoch >= self.warmup_epochs and (by is None or self.store.observed(by) > 0)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: the store by its path, the fixed plan by its id."""
        plan = self.fix()
        state = self.__dict__ | {"_unpickled": True, "_once": None, "owner": None}
        return state | ({} if self.store.mode != "r+" else {"_plan": plan.id})  # of others it is saved nowhere

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(state["_plan"], str):
            self._plan = self.store.plan(state["_plan"])
