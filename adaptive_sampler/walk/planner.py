"""Which plan an epoch has: it follows the scores until it is fixed; then it is saved, and every state names it."""

import os
import warnings
import weakref
from collections import deque
from typing import Any, Literal

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue, ResumeError, StoreError
from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.selection import KeepAll, Policy
from adaptive_sampler.selection.composed import scores_of
from adaptive_sampler.selection.following import follows
from adaptive_sampler.selection.made import plan_by
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.walk.epochs import AHEAD
from adaptive_sampler.walk.neglect import ranks_all_classes, warn_of_neglect

Replan = Literal["epoch", "once"] | int


def checked_replan(replan: Replan, policy: Any) -> Replan:
    """`replan` itself. Raises `InvalidValue` for anything but "epoch", "once", or a number of batches, 1 or more; and for "once"
    if a number of the policy follows the epoch."""
    if replan == "once" and follows(policy):
        raise InvalidValue(
            f"replan='once' makes one plan for good, and a number of {policy} follows the epoch: pass replan='epoch'."
        )
    return (
        replan if replan in ("epoch", "once") else whole_number("replan", replan, 1, otherwise=" or 'epoch' or 'once'")
    )


class Made:
    """The ids of an epoch's plans, in lists that the states of a sampler share, and that grow when a plan is fixed.

    `StatefulDataLoader` takes a state when a batch is drawn, or earlier, and hands it out when the batch is delivered.
    Because the lists are shared, such a state also names the plans that were fixed in between. `plans`: the plans of the
    epoch, one for each block with `replan=k`. `once`: with `replan="once"`, the plan that all epochs keep.
    """

    def __init__(self, once: list[str] | None = None) -> None:
        self.plans: list[str] = []
        self.once = once or []
        self._unnamed: Plan | None = None  # the epoch's one plan, until a state is taken: its id takes a while
        self._stated = False  # whether a state has the lists

    def begin(self, plan: Plan) -> None:
        """Note the epoch's one plan; a state that was taken before names it from now on."""
        if self._stated:
            self.plans[:] = [plan.id]
        else:
            self._unnamed = plan

    def forget(self, loaded: list[str]) -> None:
        """Name only the plans of a `loaded` state, as if the epoch had not begun."""
        self.plans[:], self._unnamed = loaded, None

    def state(self) -> dict[str, list[str]]:
        """The lists themselves, not copies, for a sampler's state."""
        self._stated = True
        if self._unnamed is not None:
            self.begin(self._unnamed)
        return {"plans": self.plans, "once": self.once}


class Planner:
    """Makes, fixes and restores the plans of a sampler, for one epoch (or block) after another."""

    def __init__(self, store: ScoreStore, policy: Policy, seed: int, warmup_epochs: int, replan: Replan) -> None:
        self.store, self.policy, self.seed = store, policy, seed
        self.warmup_epochs, self.replan = warmup_epochs, replan
        self.epoch = 0
        self.made, self.upcoming = Made(), Made()  # of this epoch, of the next one
        self._plan: Plan | None = None
        self._seen: MadeFrom | None = None  # the scores that `_plan` was made from; None once it is fixed
        self._once: Plan | None = None  # the plan that all epochs keep, with replan="once"
        self._unpickled = False
        self._fed = False  # whether the policy's scores were observed, or a warning said that they were not
        self._judged = -1  # the epoch whose plan was last held against the classes
        self.owner: weakref.ref[Any] | None = None  # the sampler whose plans these are
        self._fixed_from: MadeFrom | None = (
            None  # the scores that this epoch's plan was made from; None if it was made before this epoch or is not fixed
        )
        self._loaded: list[str] = []  # the plans of this epoch that the loaded state named
        # The plans of this epoch, but only of the newest blocks: no state is more than `AHEAD` blocks behind.
        self._recent: deque[Plan | str] = deque(maxlen=AHEAD + 1)
        store.session.planners.add(self)
        if ranks_all_classes(policy):
            store.session.classes.wanted_by.add(self)

    @property
    def plan(self) -> Plan:
        """This epoch's plan; until it is fixed, it is made again whenever the scores have changed."""
        if self._plan is None or (self._seen is not None and self._seen != self.store.made_from):
            self._seen = self.store.made_from
            self._plan = self.planned(self.epoch)
        return self._plan

    @property
    def fixed(self) -> Plan | None:
        """This epoch's plan, or None while it may still change."""
        return None if self._seen is not None else self._plan

    @property
    def outdated(self) -> bool:
        """Whether the scores have changed since this epoch's plan was made from them and fixed."""
        if self._fixed_from is None:
            return False
        try:
            return self.store.made_from != self._fixed_from
        except StoreError:  # on ranks before a sync: no plan can use what was observed since
            return False

    @property
    def in_force(self) -> list[str]:
        """The ids of the plans that a state taken now may name."""
        return [*self.made.once, *(plan if isinstance(plan, str) else plan.id for plan in self._recent)]

    def fix(self) -> Plan:
        """Fix this epoch's plan, so that it changes no more, give it to the store, which saves it in time, and return it."""
        plan = self.plan
        if self._seen is not None:
            if not self._unpickled:
                self.store.session.plans.keep(plan)
            self._warn_if_unfed()
            self._warn_if_one_sided(plan)
            self._fixed_from, self._seen = None if plan is self._once else self._seen, None
            self._recent.append(plan.id if isinstance(self.replan, int) else plan)  # of a block, lest its arrays stay
            if self.replan == "once" and self._once is None and self._ready():
                self._once = plan
                for made in (self.made, self.upcoming):
                    made.once.append(plan.id)
        return plan

    def state(self, *, upcoming: bool = False) -> dict[str, list[str]]:
        """The plans of this epoch, or of the next one, for a state: saved, as are those that the state grows by."""
        self.store.session.plans.save(from_now_on=True)
        return (self.upcoming if upcoming else self.made).state()

    def unfix(self) -> None:
        """Undo what `fix` did in this epoch, except for the plans that the loaded state named."""
        if self._once is not None and self._once in self._recent and self._once.id not in self._loaded:
            self._once = None
            for made in (self.made, self.upcoming):
                made.once.clear()
        self.made.forget(self._loaded)
        self._recent.clear()
        self._recent.extend(self._loaded)
        self._plan, self._seen = (self.saved(self._loaded[0]) if self._loaded else None), None
        self._fixed_from = None

    def fix_block(self, made: str | None) -> Plan:
        """The next block's plan: the saved plan of id `made`, or, for None, a new one from the present scores.

        Raises `InvalidValue` for a plan that weighs samples.
        """
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
        """Go to `epoch`, which has no plan yet."""
        once = [] if self._once is None else [self._once.id]
        self.made = self.upcoming if epoch == self.epoch + 1 else Made()
        self.made.once[:] = once
        self.upcoming = Made(once=list(once))
        self.epoch, self._plan, self._seen, self._fixed_from, self._loaded = epoch, None, None, None, []
        self._recent.clear()

    def resume(self, epoch: int, plans: list[str], once: list[str], length: int | None) -> None:
        """Go to `epoch` with the plans that a state names. Raises `ResumeError` if one of them cannot be found.

        `length`: how many samples the state gives the epoch's plan; None if it does not say. Raises `ResumeError` if the
        plan has another number.
        """
        loaded = self.saved(plans[0], epoch) if plans else None
        if loaded is not None and length not in (None, loaded.num_samples):
            raise ResumeError(
                f"the state is damaged: length={length} of plan {loaded.id}, which has {loaded.num_samples} samples. Pass what "
                "sampler.state_dict() returned."
            )
        self._once = self.saved(once[0], epoch) if once else None
        self.turn_to(epoch)
        self._loaded = list(plans)
        self.made.forget(self._loaded)
        self._recent.extend(plans)
        self._plan = loaded

    def saved(self, plan_id: str, epoch: int | None = None) -> Plan:
        """The plan of this id, from the store. Raises `ResumeError` if it cannot be found.

        A store that is open only to read saves no plans. There, the plan is made again: for `epoch` (None: the current one)
        or an earlier one, until the ids agree.
        """
        try:
            return self.store.plan(plan_id)
        except KeyError as error:
            if self.store.session.mode == "r":
                for at in range(self.epoch if epoch is None else epoch, -1, -1):
                    policy = KeepAll() if at < self.warmup_epochs else self.policy
                    plan = policy.plan(self.store, epoch=at, seed=self.seed)
                    if plan.id == plan_id:
                        return plan
            raise ResumeError(f"the state needs plan {plan_id}: {error}") from error

    def planned(self, epoch: int) -> Plan:
        """The plan that the present scores give for `epoch`, this one or a later one; nothing is fixed.

        Raises `ResumeError` in a worker process, which has no scores.
        """
        if self._unpickled:
            raise ResumeError(
                f"a worker process (pid {os.getpid()}) asks for a new plan: its scores are those of the last commit. Plan in the "
                "trainer (draw from the sampler there) and pickle the sampler after that."
            )
        if epoch < self.warmup_epochs:
            return KeepAll().plan(self.store, epoch=epoch, seed=self.seed)
        if self._once is not None:
            return self._once
        return plan_by(self.policy, self.store, epoch, self.seed)

    def _warn_if_unfed(self) -> None:
        """Warn once if the policy's score was never observed, though the warm-up or the first epoch should have fed it."""
        if self._fed or self.epoch < max(self.warmup_epochs, 1):
            return
        unfed = [by for by in scores_of(self.policy) if not self.store.observed(by)]
        self._fed = True
        if not unfed:
            return
        by = unfed[0]
        what = "keeps every row" if unfed == [*scores_of(self.policy)] else f"leaves out no row by {by!r}"
        warnings.warn(
            f"epoch {self.epoch} {what}: {self.policy} goes by {by!r}, and no row of it was observed. It takes "
            f"{self.store.session.inputs(by)}: have the training give the store that, or go by a score that it feeds.",
            RuntimeWarning,
            stacklevel=2,
        )

    def _warn_if_one_sided(self, plan: Plan) -> None:
        """Warn once if the policy's plan leaves out almost all of a class; afterwards, the classes are not needed."""
        classes = self.store.session.classes
        if self not in classes.wanted_by or self.epoch < self.warmup_epochs or self.epoch == self._judged:
            return
        self._judged = self.epoch
        if plan is self._once or warn_of_neglect(plan, self.policy, self.store):
            classes.release(self)

    def _ready(self) -> bool:
        """Whether the policy has scores to plan by."""
        return self.epoch >= self.warmup_epochs and all(self.store.observed(by) for by in scores_of(self.policy))

    def __getstate__(self) -> dict[str, Any]:
        """The state for worker processes: the store is sent by its path, and the plan, now fixed, by its id."""
        plan = self.fix()
        self.store.session.plans.save()
        state = self.__dict__ | {"_unpickled": True, "_once": None, "owner": None}
        return state | (
            {} if self.store.session.mode != "r+" else {"_plan": plan.id}
        )  # else it is sent whole: it is not saved

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(state["_plan"], str):
            self._plan = self.store.plan(state["_plan"])
