"""The score store: every score of every row in memory, kept as versions on disk by atomic commits."""

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self

import numpy as np

from adaptive_sampler.arrays import as_rows
from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import StoreError
from adaptive_sampler.export import export
from adaptive_sampler.memory.journal import Journal
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.scoring.reading import inputs_of
from adaptive_sampler.storage import files
from adaptive_sampler.storage.pointer import Version

LAST_EPOCH = 2**31 - 1  # when a row was last seen is an int32
Mode = Literal["r+", "r", "journal"]


class ScoreStore:
    """Scores of `len(store)` rows. Make one with `create` or `open`, `update` it in training, `commit` it to keep it.

    Updates fold into memory, in the process that opened the store; only a commit is durable, and atomic: nobody sees half.
    """

    def __init__(self, opened: files.Opened, mode: Mode) -> None:
        """Not for users: `create` and `open` make stores."""
        self.mode, self.path, self._pid = mode, opened.files.path, os.getpid()
        self.delivered = 0  # samples of this epoch that a watched loader delivered: which sampler states a commit fits
        self._files, self._table, self._keys = opened.files, opened.table, opened.keys
        self._meta, self.epoch = opened.meta, int(opened.meta["epoch"])
        self.updates, self.rehearsal = 0, False  # folded in since the commit; while True, hooks record nothing
        self.journal: Journal | None = None  # a distributed store's: updates wait there for the next sync
        self._pending, self.planners = weakref.WeakSet[Any](), weakref.WeakSet[Any]()  # they register themselves
        self._close = weakref.finalize(self, files.close, opened.files)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None,
        n: int,
        scores: Sequence[ScoreLike],
        *,
        keys: Iterable[str] | None = None,
        fingerprint: str | None = None,
        overwrite: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """A new, empty store of `n` rows at `path` (None: a temporary folder, gone with the store), open for writing.

        `keys`: n different names of the rows. `fingerprint`: of the dataset, compared by `IndexedDataset`. `metadata`:
        JSON data of your own. Raises `StoreError` where `path` holds something; `overwrite` replaces a store, nothing else.
        """
        return cls(files.create(path, n, scores, keys, fingerprint, overwrite, metadata), "r+")

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        mode: Mode = "r+",
        scores: Sequence[ScoreLike] = (),
        steal: bool = False,
    ) -> Self:
        """The store at `path` as of its last commit, or of commit `version`.

        `mode`: "r+" to write, one process at a time; "r" to read, any number. `scores`: the custom ones, which a store
        cannot restore. `steal`: take the lock of a writer on another host that is gone for good. Raises `StoreLocked`,
        `StoreDamaged`, `UnknownName` for a version that is not there.
        """
        return cls(files.open_(path, version, mode, scores, steal), mode)

    # -- writing ------------------------------------------------------------------------------------------------------

    def update(self, rows: Any, *, epoch: int | None = None, **observation: Any) -> None:
        """Measure an observation and fold it into every score whose inputs it brings.

        `rows` (batch,) integers; each array has that leading axis, in any framework. Duplicates fold in order. `epoch`: the
        clock where None. Raises `RowError` or `InvalidValue`, and changes nothing, for a bad row or value or no score fed."""
        self._writable()
        self.drain()
        self.fold_values(as_rows(rows, len(self)), self.measure(**observation), epoch=epoch)

    def fold(self, name: str, rows: Any, values: Any, *, epoch: int | None = None) -> None:
        """Fold already measured `values` (batch,) into the score `name`, as `update` does."""
        self._writable()
        self.drain()
        self._table[name]
        self.fold_values(as_rows(rows, len(self)), {name: values}, epoch=epoch)

    def measure(self, **observation: Any) -> dict[str, Any]:
        """What an observation says, left on its device: score name -> (batch,)."""
        return self._table.reader.measure(observation)

    def fold_values(self, rows: np.ndarray, values: Mapping[str, Any], *, epoch: int | None = None) -> None:
        """Fold what `measure` returned, for `rows` (batch,) int64."""
        matrix = self._table.matrix(len(rows), values)
        self.fold_matrix(rows, tuple(values), matrix, self.epoch if epoch is None else epoch)

    def fold_matrix(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """The same with the values as (scores, batch) float32, a line for each of `names`."""
        self._writable()
        epoch = whole_number("epoch", epoch, 0, most=LAST_EPOCH)
        if self.journal is None:
            self.fold_merged(rows, names, values, epoch)
        else:
            self._table.check(rows, names, values)
            self.journal.append(rows, names, values, epoch)

    def fold_merged(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """Fold at once what `sync` has merged of all ranks' journals."""
        self._table.fold(rows, names, values, epoch)
        self.updates += 1

    def keep_journal(self) -> None:
        """From now on keep updates in a journal, for `sync` to fold on every rank."""
        self.journal = Journal(self.names, self.made_from, self._files.next_version)

    def add(self, score: ScoreLike) -> None:
        """A new score, on an old store too; no row has been observed. On ranks: on every one, straight after `sync`."""
        self._writable()
        self._settled("a new score is wanted")
        self._table.add(score)
        self._meta["made"][score.name] = files.made_now()
        if self.journal is not None:
            self.journal.names = self.names

    def grow(self, n: int, keys: Iterable[str] | None = None) -> None:
        """Append rows, never observed, up to `n`; `keys` names the new ones where the store has keys."""
        self._writable()
        self.drain()
        grown = files.grown_keys(self._keys, len(self), n, keys)
        self._table.grow(n)
        self._keys = grown
        self.updates += 1

    def begin_run(self, name: str) -> None:
        """Begin a new training run on the same data; no effect if `name` is the current one.

        Forgetting's last correctness and the epoch clock start afresh, means and totals go on. Raises `StoreError` for
        the name of a run that has ended, and on ranks while updates wait for `sync`.
        """
        self._writable()
        if name == self._meta["runs"][-1]:
            return
        if name in self._meta["runs"]:
            raise StoreError(f"run {name!r} has ended, {self._meta['runs'][-1]!r} is the current one: name a new run.")
        self._settled("a new run is wanted")
        self._table.begin_run()
        self._meta["runs"].append(name)
        self.epoch = 0
        self.updates += 1

    def commit(self, note: str = "", *, pin: bool = False) -> int:
        """Keep everything as a new version, atomically and durably -> its number, the same on every rank.

        Writes changed chunks only. `pin`: `drop_versions` spares it. If the disk refuses, `StoreError`: nothing is lost.
        """
        self._writable()
        self._settled("a commit is wanted")
        if self.mode != "journal":  # the first rank alone writes; the others may run the same line
            self._meta |= {"epoch": self.epoch, "delivered": self.delivered, "plans": self._in_force()}
            self._files.commit(self._table, self._keys, self._meta, note=note, pin=pin)
            self.updates = 0
        if self.journal is not None:
            self.journal.committed()
        return self.version

    def drop_versions(self, *, keep: int) -> None:
        """Delete all versions but the newest `keep`, those pinned and the one open here, and plans no longer in force."""
        self._writable()
        if self.mode != "journal":
            self._files.drop(keep, self._in_force())

    # -- reading ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._table.n

    def __getitem__(self, name: str) -> np.ndarray:
        """A score, (n,) float32, NaN where never observed; read-only, and a view of the live scores where it can be one."""
        return self.values(name, slice(None))

    def values(self, name: str, part: slice) -> np.ndarray:
        """Rows `part` of a score, without reading the others from disk."""
        self.drain()
        return self._table.read(name, part)

    def count(self, name: str) -> np.ndarray:
        """How often each row was observed, (n,) uint32, read-only."""
        self.drain()
        return self._table.column(name, "count")

    def last_seen(self, name: str) -> np.ndarray:
        """The epoch in which each row was last observed, (n,) int32, −1 where never; read-only."""
        self.drain()
        return self._table.column(name, "last_seen")

    def observed(self, name: str) -> int:
        """How many rows have been observed."""
        self.drain()
        return self._table[name].book.observed

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """The rows of these keys, (len(keys),) int64. Raises `UnknownName`, a KeyError, naming the first unknown key."""
        return self._key_map().rows(keys)

    def key(self, row: int) -> str:
        """The key of a row."""
        return self._key_map().key(row)

    @property
    def has_keys(self) -> bool:
        """Whether the rows have keys."""
        return self._keys is not None

    def export(self, path: str | os.PathLike[str], *, plan: Plan | None = None) -> None:
        """Write the rows of `plan` (None: all) with keys and scores to a .csv, or the rows alone to a .npy."""
        export(self, path, plan)

    def plan(self, plan_id: str) -> Plan:
        """A saved plan by its id. Raises `UnknownName`."""
        return self._files.repository.plan(plan_id)

    def save_plan(self, plan: Plan) -> None:
        """Keep a plan beside the versions; where the store is open to read only, nothing happens."""
        if self.mode == "r+" and os.getpid() == self._pid:
            self._files.repository.save_plan(plan)

    def versions(self) -> list[Version]:
        """The commits, oldest first: (version, time, note, pinned), and `observed` rows."""
        return self._files.repository.versions()

    def takes(self, name: str, *, instead_of_logits: bool = False) -> bool:
        """Whether some score takes `name`; `instead_of_logits`: one to which logits and labels are not as good."""
        return name in self._table.reader.inputs[instead_of_logits]

    def inputs(self, name: str) -> str:
        """In words, what a score takes of an observation."""
        return inputs_of(self._table[name].score)

    @property
    def scores(self) -> list[ScoreLike]:
        """The scores, in the order of making."""
        return self._table.scores

    @property
    def names(self) -> tuple[str, ...]:
        """The scores' names, in the order of making."""
        return tuple(self._table.columns)

    @property
    def version(self) -> int:
        """The version that this store was opened at or last committed; 0 before the first commit."""
        return self._files.manifest.version if self.journal is None else self.journal.version

    @property
    def committed_at(self) -> tuple[int, int]:
        """At the commit that this store was opened at or last made: the epoch, and its samples that a watch delivered."""
        return int(self._files.manifest.meta["epoch"]), int(self._files.manifest.meta["delivered"])

    @property
    def made_from(self) -> MadeFrom:
        """The state of the scores now: the commit, and the updates folded in since."""
        return self._settled("a plan is wanted")

    def digest(self) -> int:
        """A checksum of everything that the scores hold: equal stores have equal ones."""
        self.drain()
        return self._table.digest()

    @property
    def uuid(self) -> str:
        """Tells this store from any other."""
        return self._files.repository.pointer.uuid

    @property
    def about(self) -> dict[str, Any]:
        """Where the store comes from: fingerprint, your metadata, package version, runs, when each score was made."""
        return {name: self._meta[name] for name in ("fingerprint", "metadata", "package", "created", "runs", "made")}

    def register(self, hook: Any) -> None:
        """Have `hook.flush()` called before anything reads or commits: what it still holds is part of the store."""
        self._pending.add(hook)

    def drain(self) -> None:
        """Fold what the hooks still hold, in step order."""
        for hook in tuple(self._pending):
            hook.flush()

    def close(self) -> None:
        """Give the lock back. What was not committed is gone; a second call does nothing."""
        if self._close.alive and self.mode == "r+":
            self.drain()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a handle on one store: a copied model's hook records into the same

    def __reduce__(self) -> tuple[Callable[..., "ScoreStore"], tuple[Any, ...]]:
        return partial(ScoreStore.open, version=self.version, mode="r"), (self.path,)  # as of the last commit

    def __repr__(self) -> str:
        return f"ScoreStore({str(self.path)!r}, n={len(self)}, names={list(self.names)}, version={self.version})"

    def _writable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"process {os.getpid()} writes to a store that process {self._pid} opened: its scores live there. Send "
                "what you observed to the trainer, or use one store a process and sync."
            )
        if self.mode == "r":
            raise StoreError(f"{self.path} is open to read (mode='r'). Open it with mode='r+' to write.")
        if not self._close.alive:
            raise StoreError(f"{self.path} was closed. Open it again.")

    def _settled(self, wanted: str) -> MadeFrom:
        """The state of the scores now. Raises `StoreError` where this rank knows more than the others."""
        self.drain()
        return MadeFrom(self.version, self.updates) if self.journal is None else self.journal.settled(wanted)

    def _in_force(self) -> list[str]:  # a commit names these plans, for `drop_versions` to spare them
        return sorted({plan for planner in tuple(self.planners) for plan in planner.in_force})

    def _key_map(self) -> KeyMap:
        if self._keys is None:
            raise StoreError(f"{self.path} has no keys: its rows are positions. Make it with create(..., keys=...).")
        return self._keys
