"""How an open store commits: in the call, or behind it, while the training goes on."""

import os
import weakref
from abc import ABC, abstractmethod
from typing import Any

from adaptive_sampler.checks import whole_number
from adaptive_sampler.commits.pending import PendingCommit
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.clock import Clock
from adaptive_sampler.memory.journal import Journal
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Table
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.memory.user_columns import check_whole
from adaptive_sampler.plan import MadeFrom
from adaptive_sampler.storage.files import Files
from adaptive_sampler.storage.plans import StorePlans
from adaptive_sampler.storage.pointer import Version
from adaptive_sampler.storage.taken_version import TakenVersion


class Commits(ABC):
    """The part of a `Session` that writes versions, and knows which one it goes on from."""

    mode: str
    updates: int
    files: Files
    table: Table
    keys: KeyMap | None
    columns: dict[str, UserColumn]
    meta: dict[str, Any]
    clock: Clock
    journal: Journal | None
    plans: StorePlans
    planners: "weakref.WeakSet[Any]"
    _pid: int
    _pending: PendingCommit | None = None

    @abstractmethod
    def settled(self, wanted: str) -> MadeFrom:
        """The state of the scores now; see `Session.settled`."""

    def plans_in_force(self) -> list[str]:
        """The ids of the plans that states of this store's samplers may name; a commit lists them, `drop_versions` keeps them."""
        return sorted({plan for planner in tuple(self.planners) for plan in planner.in_force})

    def commit(self, note: str, pin: bool, keep: int | None, wait: bool) -> int | PendingCommit:
        """Write what is in memory as a new version, then drop old ones; see `ScoreStore.commit`."""
        if keep is not None:
            _checked(keep)  # before anything is written
        self.settled("a commit is wanted")
        check_whole(self.columns, self.table.n)
        if not wait:
            return self._write_behind(note, pin, keep)
        if self.mode != "journal":  # only the first rank writes, though every rank may commit
            self._write(note, pin)
        if self.journal is not None:
            self.journal.committed(None if self.mode == "journal" else self.files.manifest.version)
        if keep is not None:
            self.drop(keep)
        return self.version

    def drop(self, keep: int) -> None:
        """Drop all versions but the newest `keep`; see `ScoreStore.drop_versions`."""
        _checked(keep)
        self.settle()
        if self.mode != "journal":
            self.files.drop(keep, self.plans_in_force())

    def _write(self, note: str, pin: bool) -> None:
        self.files.commit(self.table, self._taken(note, pin))
        self.updates = 0

    def _taken(self, note: str, pin: bool, *, copied: bool = False) -> TakenVersion:
        self.plans.save()
        walks = [] if self.journal is None else self.journal.walks()
        clock = {"epoch": self.clock.epoch, "delivered": self.clock.delivered, "whose": self.clock.whose}
        self.meta |= clock | {"plans": self.plans_in_force(), "walks": walks}
        return self.files.take(self.table, self.keys, self.columns, self.meta, note=note, pin=pin, copied=copied)

    def _write_behind(self, note: str, pin: bool, keep: int | None) -> PendingCommit:
        if self.journal is not None:
            raise InvalidValue("wait=False: ranks commit together, each at its own time. Call commit() on ranks.")
        self._pending = PendingCommit(self._taken(note, pin, copied=True), self.updates, keep, self.settle)
        return self._pending

    def settle(self) -> None:
        """Wait for the commit that is being written, and go on from it. Raises its error; then it counts as not made."""
        pending = self._pending
        if pending is None or os.getpid() != self._pid:
            return
        try:
            manifest = pending.manifest()
        except Exception:
            self._pending = None
            self.files.give_back(self.table, pending.taken)
            raise
        self._pending = None
        self.files.adopt(self.table, pending.taken, manifest)
        self.updates -= pending.updates
        if pending.keep is not None:
            self.drop(pending.keep)

    def versions(self) -> list[Version]:
        """The commits, oldest first; see `ScoreStore.versions`."""
        return self.files.repository.versions.committed()

    @property
    def version(self) -> int:
        """The number of the version that was opened or last committed; 0 before the first commit."""
        return self.files.manifest.version if self.journal is None else self.journal.version

    @property
    def committed_at(self) -> tuple[int, int, str | None]:
        """(epoch, samples of it that a watched loader had delivered, whose they are) at the commit that was opened or last made."""
        meta = self.files.manifest.meta
        return int(meta["epoch"]), int(meta["delivered"]), meta.get("whose")

    def settles_first(self) -> None:
        """Let plans be saved only when no commit is being written: a storage takes one writer's objects at a time."""
        this = weakref.ref(self)  # a bound method would keep the session alive, as its files outlive it

        def settle() -> None:
            if (session := this()) is not None:
                session.settle()

        self.plans.settle = settle


def _checked(keep: int) -> None:
    whole_number("keep", keep, 1, what="how many versions stay", otherwise="; the newest is never dropped")
