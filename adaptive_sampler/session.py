"""The inside of an open store: what samplers, hooks and ranks need of it, and users do not."""

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from adaptive_sampler.checks import LAST_EPOCH, whole_number
from adaptive_sampler.commits.written import Commits
from adaptive_sampler.errors import InvalidValue, StoreError
from adaptive_sampler.memory.body import Body
from adaptive_sampler.memory.classes import Classes
from adaptive_sampler.memory.clock import Clock
from adaptive_sampler.memory.journal import Journal
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.matrix import matrix
from adaptive_sampler.memory.table import Runs, Table
from adaptive_sampler.memory.user_columns import check_free, check_whole, digest
from adaptive_sampler.plan import MadeFrom
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.scoring.reading import inputs_of
from adaptive_sampler.storage import files
from adaptive_sampler.storage.opening import Opened, check_samples

Mode = Literal["r+", "r", "journal"]
OUTPUTS = {"logits", "labels"}  # an observation of which one pass measures every score, in the usual case


class Session(Commits):
    """One open store, from `ScoreStore.create` or `open` to `close`, in one process.

    `updates`: how many updates were folded in since the last commit. `rehearsal`: while True, hooks record nothing.
    `journal`: on ranks, where updates wait for the next sync; None without ranks. `planners`: the planners of this store's
    samplers, which register themselves. `plans`: saved and waiting ones. `classes`: the labels that hooks saw. `columns`: those
    of the user's own.
    """

    def __init__(self, opened: Opened, mode: Mode) -> None:
        self.mode, self._pid = mode, os.getpid()
        self.files, self.table, self.keys, self.meta = opened.files, opened.table, opened.keys, opened.meta
        self.columns = opened.columns
        self.clock = Clock(int(opened.meta["epoch"]))
        self.plans = opened.files.repository.plans
        self.settles_first()
        self.plans.writer = self._pid if mode == "r+" else None
        self.updates, self.rehearsal = int(opened.columns != opened.files.columns), False
        self.journal: Journal | None = None
        self.classes = Classes()
        self._hooks: list[weakref.ref[Any]] = []  # a WeakSet is slower to walk than a small plan is to make
        self.planners = weakref.WeakSet[Any]()
        self._end = weakref.finalize(self, files.close, opened.files)

    # -- what a hook does at each step ----------------------------------------------------------------------------------

    def measure(self, **observation: Any) -> dict[str, Any]:
        """Measure an observation for every score that it feeds: score name -> (batch,), without waiting for a device.

        Raises `InvalidValue` if the observation feeds no score.
        """
        return self.table.reader.measure(observation)

    def update(self, rows: np.ndarray, observation: Mapping[str, Any], *, epoch: int | None = None) -> None:
        """Measure an observation of `rows`, (batch,) int64, and fold the values; as `measure` and `fold_values`."""
        values = self.table.reader.matrix(**observation) if observation.keys() == OUTPUTS else None
        if values is None or values.shape[1] != len(rows):
            self.fold_values(rows, self.measure(**observation), epoch=epoch)
        else:
            self.fold_matrix(rows, tuple(self.table.columns), values, self.clock.epoch if epoch is None else epoch)

    def fold_values(self, rows: np.ndarray, values: Mapping[str, Any], *, epoch: int | None = None) -> None:
        """Fold what `measure` returned for `rows`, (batch,) int64. `epoch`: None for the epoch of the clock."""
        self.fold_matrix(rows, tuple(values), matrix(len(rows), values), self.clock.epoch if epoch is None else epoch)

    def fold_matrix(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """Fold values that are given as a matrix, (scores, batch) float32, one line for each of `names`.

        With a journal, the values are checked and wait there for the next sync.
        """
        self.check_writable()
        if type(epoch) is not int or not 0 <= epoch <= LAST_EPOCH:  # asked here, because the call takes longer
            epoch = whole_number("epoch", epoch, 0, most=LAST_EPOCH)
        if self.journal is None:
            self.fold_merged(rows, names, values, epoch)
        else:
            self.table.check(rows, names, values)
            self.journal.append(rows, names, values, epoch)

    def fold_merged(
        self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int, *, updates: int = 1
    ) -> None:
        """Fold values into the scores at once, past the journal: `sync` calls this with the `updates` of all ranks."""
        self.table.fold(rows, names, values, epoch)
        self.updates += updates

    def takes(self, name: str, *, instead_of_logits: bool = False) -> bool:
        """Whether some score takes the observation `name`.

        `instead_of_logits`: consider only scores that cannot take logits and labels in its place.
        """
        return name in self.table.reader.inputs[instead_of_logits]

    def inputs(self, name: str) -> str:
        """In words, what the score `name` takes of an observation."""
        return inputs_of(self.table[name].score)

    # -- what else changes the scores -----------------------------------------------------------------------------------

    def add(self, score: ScoreLike) -> None:
        """Add a score; see `ScoreStore.add`."""
        self.settled("a new score is wanted")
        check_free(getattr(score, "name", ""), self.columns)
        self.table.add(score)
        self.meta["made"][score.name] = files.made_now() | {"added": True}
        if self.journal is not None:
            self.journal.names = tuple(self.table.columns)

    def grow(self, n: int, keys: Iterable[str] | None) -> None:
        """Append rows; see `ScoreStore.grow`."""
        n = whole_number("n", n, 1, what="a number of rows")
        grown = files.grown_keys(self.keys, self.table.n, n, keys)
        self.table.grow(n)
        self.keys = grown
        self.updates += 1

    def begin_run(self, name: str) -> None:
        """Begin a new training run; see `ScoreStore.begin_run`."""
        runs = self.meta["runs"]
        if name == runs[-1]:
            return
        if name in runs:
            raise StoreError(f"run {name!r} has ended, {runs[-1]!r} is the current one: name a new run.")
        self.settled("a new run is wanted")
        self.table.begin_run(len(runs))
        runs.append(name)
        self.clock.show(0)
        self.updates += 1

    # -- what hooks still hold ------------------------------------------------------------------------------------------

    def register(self, hook: Any) -> None:
        """Register a hook, whose `flush()` is then called before anything reads or commits the scores.

        Observations that a hook still holds are part of the store.
        """
        if all(known() is not hook for known in self._hooks):
            self._hooks.append(weakref.ref(hook, self._hooks.remove))

    @property
    def hooks(self) -> list[Any]:
        """The hooks that record into this store and are still there, the oldest first."""
        return [hook for known in self._hooks if (hook := known()) is not None]

    def drain(self) -> None:
        """Have every hook fold what it still holds, in the order of the training steps."""
        for known in tuple(self._hooks):
            if (hook := known()) is not None:
                hook.flush()

    def settled(self, wanted: str) -> MadeFrom:
        """The state of the scores now, after `drain`; `wanted` begins the message of an error.

        Raises `StoreError` on ranks while updates wait for `sync`, or if a sync broke off.
        """
        self.drain()
        return MadeFrom(self.version, self.updates) if self.journal is None else self.journal.settled(wanted)

    def check_asked(
        self,
        n: int,
        scores: Sequence[ScoreLike],
        keys: Iterable[str] | None = None,
        fingerprint: str | None = None,
        runs: Runs | None = None,
    ) -> None:
        """Raise `InvalidValue` unless the store has `n` rows and these scores, and the rest as far as it is given."""
        self.table.check_same(self.files.path, n, scores, files.added_later(self.meta), runs)
        named = self.keys if keys is None else files.grown_keys(None, 0, n, keys)
        check_samples(Opened(self.files, self.table, self.keys, self.columns, self.meta), named, fingerprint)

    # -- ranks ----------------------------------------------------------------------------------------------------------

    def keep_journal(self) -> None:
        """From now on keep updates in a journal; `sync` folds them on every rank.

        A rank that does not commit reads what is still on disk now: the first rank may drop the version that it has open.
        """
        if self.mode == "journal":
            self.table.fetch()
            digest(self.columns)  # reads them
        made_from = self.settled("a journal is wanted")
        self.plans.save(from_now_on=True)  # the state that names a plan may be that of another rank
        names, walks = tuple(self.table.columns), self.meta.get("walks", [])
        self.journal = Journal(names, made_from, lambda: self.files.next_version, walks)

    def apart(self) -> AbstractContextManager[None]:
        """What is observed meanwhile is no part of a training epoch, so on ranks none of it is left out as padding."""
        return nullcontext() if self.journal is None else self.journal.kept_apart()

    def begin_pass(self, sampler: Any) -> None:
        """Note on ranks that `sampler` begins an epoch, maybe anew; what hooks still hold is of a pass before."""
        if self.journal is not None:
            self.drain()
            self.journal.begin_pass(sampler)

    def digest(self) -> int:
        """A checksum of all columns, of the scores and of the user's own: stores that hold the same have equal digests."""
        self.drain()
        return digest(self.columns, self.table.digest())

    def kept_runs(self, name: str) -> dict[str, Table]:
        """The runs that the store keeps apart and that have observed the score `name`, by their names, the oldest first.

        Raises `UnknownName` for an unknown score, and `InvalidValue` if the store keeps no run apart.
        """
        self.drain()
        self.table[name]  # raises for an unknown name
        if not self.table.runs:
            raise InvalidValue(
                f"{self.files.path} keeps the mean over its runs alone. Make a store with runs='kept': ScoreStore.create(path, n, "
                "scores, runs='kept')."
            )
        names, runs = self.meta["runs"], self.table.runs.items()
        return {names[number]: run for number, run in runs if name in run.columns and run[name].book.observed}

    # -- what others see of it ------------------------------------------------------------------------------------------

    @property
    def body(self) -> Body:
        """What the store holds: its own table, not a copy. Drain the hooks first."""
        check_whole(self.columns, self.table.n)
        made_for, runs, where = self.meta["fingerprint"], self.meta["runs"], str(self.files.path)
        return Body(self.table, self.keys, made_for, tuple(runs), self.clock.epoch, where, self.uuid, self.columns)

    @property
    def uuid(self) -> str:
        """The store's identifier, which no other store has."""
        return self.files.uuid

    def opener(self, open_: Callable[..., Any], version: int | None = None) -> Callable[[], Any]:
        """A function without arguments that opens this store for reading, in whichever process calls it.

        `open_`: `ScoreStore.open`. `version`: the commit to open, None for the last one.
        """
        self.plans.save()
        place = {"path": self.files.path} if isinstance(self.files.path, Path) else {"storage": self.files.storage}
        return partial(open_, version=version, mode="r", **place)

    # -- whether the store is open --------------------------------------------------------------------------------------

    @property
    def drained(self) -> Self:
        """This session, once the hooks hold nothing any more. Use it before anything is read."""
        self.drain()
        return self

    def to_write(self) -> Self:
        """This session, once the hooks hold nothing any more. Raises `StoreError` if nothing may be written."""
        self.check_writable()
        return self.drained

    def check_writable(self) -> None:
        """Raise `StoreError` if this process did not open the store, opened it only to read, or has closed it."""
        if os.getpid() != self._pid:
            raise StoreError(
                f"process {os.getpid()} writes to a store that process {self._pid} opened: its scores live there. Send "
                "what you observed to the trainer, or use one store a process and sync."
            )
        if self.mode == "r":
            raise StoreError(f"{self.files.path} is open to read (mode='r'). Open it with mode='r+' to write.")
        if not self._end.alive:
            raise StoreError(f"{self.files.path} was closed. Open it again.")

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return not self._end.alive

    def key_map(self) -> KeyMap:
        """The keys of the rows. Raises `StoreError` if the store has none."""
        if self.keys is None:
            raise StoreError(
                f"{self.files.path} has no keys: its rows are positions. Make it with create(..., keys=...)."
            )
        return self.keys

    def close(self) -> None:
        """Fold what the hooks still hold, and give the writer's lease back; a second call does nothing."""
        try:
            if self._end.alive and self.mode == "r+":
                self.drain()
                self.plans.save()
        finally:
            self._end()
