"""The plans of a store, each in a folder named by its id, and those that are fixed but not saved yet."""

import os
from collections.abc import Callable

from adaptive_sampler.disk import FULL, Bytes
from adaptive_sampler.errors import StoreDamaged, StoreError, UnknownName
from adaptive_sampler.plan import FILES, PLAN_ID, MadeFrom, Plan, from_files, origin_of
from adaptive_sampler.storage.base import Storage

PLANS = "plans"
MOST = 64 << 20  # bytes of plans that wait; beyond them they are saved, so that memory stays bounded without a commit
_EACH = 2048  # bytes that a plan takes besides its arrays


class StorePlans:
    """The plans of a store. A plan waits in memory until something needs it on the storage; then all that wait are saved.

    Saving takes a few fsyncs, which is longer than planning a small epoch. A plan that no state, worker or commit has named
    cannot be asked for after the process has ended, so nothing is lost if it ends before that.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage, self._where = storage, storage.where
        self.writer: int | None = None  # the process that may save; in any other one, plans neither wait nor are saved
        self.settle: Callable[[], None] = lambda: None  # waits for whoever writes to the storage meanwhile
        self._at_once = False
        self._waiting: list[Plan] = []  # some may be equal: their ids are worked out when they are saved
        self._bytes = 0

    def keep(self, plan: Plan) -> None:
        """Let a plan wait to be saved. Raises `StoreError` if it cannot wait, and the storage refuses it."""
        if self.writer != os.getpid() or (self._waiting and self._waiting[-1] is plan):
            return
        self._waiting.append(plan)
        self._bytes += _EACH
        for array in (plan.kept, plan.counts, plan.weights):
            self._bytes += 0 if array is None else array.nbytes
        if self._at_once or self._bytes > MOST:
            self.save()

    def save(self, *, from_now_on: bool = False) -> None:
        """Save the plans that wait, durably. Raises `StoreError` if the storage refuses; then they go on waiting.

        `from_now_on`: no later plan waits, because a state may be out that names it: states grow with the plans of an epoch.
        """
        self._at_once |= from_now_on
        if self.writer != os.getpid():
            return
        self.settle()
        if not self._waiting:
            return
        new = {plan.id: plan for plan in self._waiting if not self._whole(plan.id)}
        try:
            # plan.json says that a plan is complete, so it is written when the rest is on the disk.
            files = {name: plan.files() for name, plan in new.items()}
            about = {name: some.pop("plan.json") for name, some in files.items()}
            self._put({f"{name}/{file}": parts for name, some in files.items() for file, parts in some.items()})
            self._put({f"{name}/plan.json": parts for name, parts in about.items()})
        except OSError as error:
            for name in new:
                self._storage.delete(f"{PLANS}/{name}")
            raise _refused(next(iter(new)), self._where, error) from error
        self._waiting, self._bytes = [], 0

    def _put(self, objects: dict[str, list[Bytes]]) -> None:
        for name, parts in objects.items():
            self._storage.put(f"{PLANS}/{name}", parts)
        if objects:
            self._storage.flush()

    def __getitem__(self, plan_id: str) -> Plan:
        """The plan of this id. Raises `UnknownName` if there is none, `StoreDamaged` if its files were changed."""
        for plan in self._waiting:
            if plan.id == plan_id:
                return plan
        known = self._names()
        if plan_id not in known:
            raise UnknownName(
                f"{self._where} holds no plan {plan_id!r}. It was made from a version that has been dropped, or in another "
                f"store; {len(known)} plans are here. Start the epoch anew, or keep its version (commit(pin=True))."
            )
        at = f"{PLANS}/{plan_id}"
        names = [name for name in self._storage.names(at) if name in FILES]
        try:
            files = {name: self._storage.get(f"{at}/{name}") for name in names}
        except OSError as error:
            raise StoreDamaged(
                f"{self._where}/{at} cannot be read: {error.strerror or error}. Make it readable, or delete that folder; the "
                "sampler plans again at its next epoch."
            ) from error
        plan = from_files(files, f"{self._where}/{at}")
        if plan.id != plan_id:
            raise StoreDamaged(
                f"{self._where}/{at} holds plan {plan.id}: folders were exchanged. Delete that folder; the sampler plans again at "
                "its next epoch."
            )
        return plan

    def newest(self) -> Plan | None:
        """The newest plan, as `in_order` orders them; None if there is none."""
        return next(reversed(self.in_order()), None)

    def in_order(self) -> list[Plan]:
        """All plans by the scores that they were made from, then by their epoch, the newest last.

        Raises `StoreDamaged` if the files of any plan were changed, as they say which one is the newest.
        """
        plans = [*self._waiting, *(self[name] for name in self._names() if self._whole(name))]
        return sorted(plans, key=lambda plan: (plan.made_from, plan.epoch, plan.id))

    def drop(self, orphaned: Callable[[str, MadeFrom], bool]) -> None:
        """Delete the saved plans of which `orphaned` says so, by their id and the scores that they were made from.

        What is left of a plan that was never complete is deleted, too.
        """
        for name in self._names():
            try:
                made_from, _ = origin_of(self._storage.get(f"{PLANS}/{name}/plan.json"))
                drop = orphaned(name, made_from)
            except FileNotFoundError:
                drop = True  # half of a plan, left by a process that was killed
            except (ValueError, OSError, StoreDamaged):
                drop = False  # damaged: it stays, so that reading it says so
            if drop:
                self._storage.delete(f"{PLANS}/{name}")

    def _names(self) -> list[str]:
        """The ids of the plans that are saved, whole or not."""
        return [name for name in self._storage.names(PLANS) if PLAN_ID.fullmatch(name)]

    def _whole(self, plan_id: str) -> bool:
        return "plan.json" in self._storage.names(f"{PLANS}/{plan_id}")


def _refused(plan_id: str, where: str, error: OSError) -> StoreError:
    remedy = "make room (drop_versions takes old plans away too)" if error.errno in FULL else "mend that"
    return StoreError(
        f"plan {plan_id} could not be kept in {where}: {error.strerror or error}. An epoch could not be resumed "
        f"without it: {remedy} and ask again."
    )
