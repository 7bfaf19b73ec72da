"""An open store from inside: what samplers, hooks and ranks need of it, and its users do not."""

import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import StoreError
from adaptive_sampler.memory.clock import LAST_EPOCH, Clock
from adaptive_sampler.memory.journal import Journal
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.scoring.reading import inputs_of
from adaptive_sampler.storage import files
from adaptive_sampler.storage.opening import Opened

Mode = Literal["r+", "r", "journal"]


class Session:
    """From `ScoreStore.create` or `open` to its `close`, in one process.

    `updates`: folded in since the commit. `rehearsal`: while True, hooks record nothing. `journal`: of a distributed
    store, whose updates wait there for the next sync. `planners`: of the samplers of this store; they register themselves.
    """

    def __init__(self, opened: Opened, mode: Mode) -> None:
        self.mode, self._pid = mode, os.getpid()
        self.files, self.table, self.keys, self.meta = opened.files, opened.table, opened.keys, opened.meta
        self.clock = Clock(int(opened.meta["epoch"]))
        self.updates, self.rehearsal = 0, False
        self.journal: Journal | None = None
        self._hooks, self.planners = weakref.WeakSet[Any](), weakref.WeakSet[Any]()
        self._end = weakref.finalize(self, files.close, opened.files)

    # -- what a hook does at each step ----------------------------------------------------------------------------------

    def measure(self, **observation: Any) -> dict[str, Any]:
        """What an observation says, left on its device: score name -> (batch,)."""
        return self.table.reader.measure(observation)

    def fold_values(self, rows: np.ndarray, values: Mapping[str, Any], *, epoch: int | None = None) -> None:
        """Fold what `measure` returned, for `rows` (batch,) int64. `epoch`: the clock's where None."""
        matrix = self.table.matrix(len(rows), values)
        self.fold_matrix(rows, tuple(values), matrix, self.clock.epoch if epoch is None else epoch)

    def fold_matrix(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """The same with the values as (scores, batch) float32, a line for each of `names`."""
        self.check_writable()
        epoch = whole_number("epoch", epoch, 0, most=LAST_EPOCH)
        if self.journal is None:
            self.fold_merged(rows, names, values, epoch)
        else:
            self.table.check(rows, names, values)
            self.journal.append(rows, names, values, epoch)

    def fold_merged(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """Fold at once what `sync` has merged of all ranks' journals."""
        self.table.fold(rows, names, values, epoch)
        self.updates += 1

    def takes(self, name: str, *, instead_of_logits: bool = False) -> bool:
        """Whether some score takes `name`; `instead_of_logits`: one to which logits and labels are not as good."""
        return name in self.table.reader.inputs[instead_of_logits]

    def inputs(self, name: str) -> str:
        """In words, what a score takes of an observation."""
        return inputs_of(self.table[name].score)

    # -- who is to be asked before the scores are read ------------------------------------------------------------------

    def register(self, hook: Any) -> None:
        """Have `hook.flush()` called before anything reads or commits: what it still holds is part of the store."""
        self._hooks.add(hook)

    def drain(self) -> None:
        """Fold what the hooks still hold, in step order."""
        for hook in tuple(self._hooks):
            hook.flush()

    def settled(self, wanted: str) -> MadeFrom:
        """The state of the scores now. Raises `StoreError` where this rank knows more than the others."""
        self.drain()
        return MadeFrom(self.version, self.updates) if self.journal is None else self.journal.settled(wanted)

    # -- ranks ----------------------------------------------------------------------------------------------------------

    def keep_journal(self) -> None:
        """From now on keep updates in a journal, for `sync` to fold on every rank."""
        made_from = self.settled("a journal is wanted")
        self.journal = Journal(tuple(self.table.columns), made_from, self.files.next_version)

    def digest(self) -> int:
        """A checksum of everything that the scores hold: equal stores have equal ones."""
        self.drain()
        return self.table.digest()

    # -- plans and commits ----------------------------------------------------------------------------------------------

    def save_plan(self, plan: Plan) -> None:
        """Keep a plan beside the versions; where the store is open to read only, nothing happens."""
        if self.mode == "r+" and os.getpid() == self._pid:
            self.files.repository.save_plan(plan)

    def newest_plan(self) -> Plan | None:
        """The kept plan that was made last, or None."""
        found = self.files.repository.newest_plan()
        return None if found is None else self.files.repository.plan(found)

    def plans_in_force(self) -> list[str]:
        """The plans that a commit names, for `drop_versions` to spare them."""
        return sorted({plan for planner in tuple(self.planners) for plan in planner.in_force})

    def commit(self, note: str, pin: bool) -> None:
        """Write a version of what is in memory. Only where `mode` is "r+"."""
        meta = {"epoch": self.clock.epoch, "delivered": self.clock.delivered, "plans": self.plans_in_force()}
        self.meta |= meta
        self.files.commit(self.table, self.keys, self.meta, note=note, pin=pin)
        self.updates = 0

    @property
    def version(self) -> int:
        """The version that was opened or last committed; 0 before the first commit."""
        return self.files.manifest.version if self.journal is None else self.journal.version

    @property
    def committed_at(self) -> tuple[int, int]:
        """At the commit that was opened or last made: the epoch, and its samples that a watch delivered."""
        return int(self.files.manifest.meta["epoch"]), int(self.files.manifest.meta["delivered"])

    @property
    def uuid(self) -> str:
        """Tells this store from any other."""
        return self.files.repository.versions.pointer.uuid

    def opener(self, open_: Callable[..., Any], version: int | None = None) -> Callable[[], Any]:
        """`open_`, which is `ScoreStore.open`, of this store, to read, in whichever process; None: as of its last commit."""
        place = {"path": self.files.path} if isinstance(self.files.path, Path) else {"storage": self.files.storage}
        return partial(open_, version=version, mode="r", **place)

    # -- whether it is open ---------------------------------------------------------------------------------------------

    @property
    def drained(self) -> Self:
        """The same once the hooks hold nothing: what is to be asked before anything is read."""
        self.drain()
        return self

    def to_write(self) -> Self:
        """The same, where something may be written, and once the hooks hold nothing. Raises `StoreError`."""
        self.check_writable()
        return self.drained

    def check_writable(self) -> None:
        """Raise `StoreError` where nothing may be written: in another process, read only, or closed."""
        where = self.files.path
        if os.getpid() != self._pid:
            raise StoreError(
                f"process {os.getpid()} writes to a store that process {self._pid} opened: its scores live there. Send "
                "what you observed to the trainer, or use one store a process and sync."
            )
        if self.mode == "r":
            raise StoreError(f"{where} is open to read (mode='r'). Open it with mode='r+' to write.")
        if not self._end.alive:
            raise StoreError(f"{where} was closed. Open it again.")

    def key_map(self) -> KeyMap:
        """The rows' keys. Raises `StoreError` where they have none."""
        if self.keys is None:
            raise StoreError(
                f"{self.files.path} has no keys: its rows are positions. Make it with create(..., keys=...)."
            )
        return self.keys

    def close(self) -> None:
        """Give the lease back; a second call does nothing."""
        if self._end.alive and self.mode == "r+":
            self.drain()
        self._end()
