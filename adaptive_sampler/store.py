"""The score store: every score of every row in memory, kept as versions by atomic commits."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from adaptive_sampler.arrays import as_rows
from adaptive_sampler.errors import StoreError
from adaptive_sampler.export import export
from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.session import Mode, Session
from adaptive_sampler.storage import opening
from adaptive_sampler.storage.base import Storage
from adaptive_sampler.storage.files import grown_keys, made_now
from adaptive_sampler.storage.pointer import Version


class ScoreStore:
    """Scores of `len(store)` rows. Make one with `create` or `open`, `update` it in training, `commit` it to keep it.

    Updates fold into memory, in the process that opened the store; only a commit is durable, and atomic: nobody sees half.
    `session` is the store from inside, for what records and samples; its users need none of it.
    """

    def __init__(self, opened: opening.Opened, mode: Mode) -> None:
        """Not for users: `create` and `open` make stores."""
        self.session = Session(opened, mode)

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
        storage: Storage | None = None,
    ) -> Self:
        """A new, empty store of `n` rows, open for writing.

        `path`: a folder, "memory://name" for one that lives as long as the process, or None for a temporary folder that
        is gone with the store. `storage`: a place of your own, with `path` None. `keys`: n different names of the rows.
        `fingerprint`: of the dataset, compared by `IndexedDataset`. `metadata`: JSON data of your own. Raises `StoreError`
        where the place holds something; `overwrite` replaces a store, nothing else.
        """
        return cls(opening.create(path, n, scores, keys, fingerprint, overwrite, metadata, storage), "r+")

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        version: int | None = None,
        mode: Mode = "r+",
        scores: Sequence[ScoreLike] = (),
        steal: bool = False,
        storage: Storage | None = None,
    ) -> Self:
        """The store at `path`, or in `storage`, as of its last commit, or of commit `version`.

        `mode`: "r+" to write, one process at a time; "r" to read, any number. `scores`: the custom ones, which a store
        cannot restore. `steal`: take the lock of a writer on another host that is gone for good. Raises `StoreLocked`,
        `NoStore` where there is nothing, `StoreDamaged`, `UnknownName` for a version that is not there.
        """
        return cls(opening.open_(path, version, mode, scores, steal, storage), mode)

    # -- writing ------------------------------------------------------------------------------------------------------

    def update(self, rows: Any, *, epoch: int | None = None, **observation: Any) -> None:
        """Measure an observation and fold it into every score whose inputs it brings.

        `rows` (batch,) integers; each array has that leading axis, in any framework. Duplicates fold in order. `epoch`: the
        clock where None. Raises `RowError` or `InvalidValue`, and changes nothing, for a bad row or value or no score fed."""
        session = self.session.to_write()
        session.fold_values(as_rows(rows, len(self)), session.measure(**observation), epoch=epoch)

    def fold(self, name: str, rows: Any, values: Any, *, epoch: int | None = None) -> None:
        """Fold already measured `values` (batch,) into the score `name`, as `update` does."""
        session = self.session.to_write()
        session.table[name]  # raises for a name that is none, before any row is looked at
        session.fold_values(as_rows(rows, len(self)), {name: values}, epoch=epoch)

    def add(self, score: ScoreLike) -> None:
        """A new score, on an old store too; no row has been observed. On ranks: on every one, straight after `sync`."""
        session = self.session.to_write()
        session.settled("a new score is wanted")
        session.table.add(score)
        session.meta["made"][score.name] = made_now()
        if session.journal is not None:
            session.journal.names = self.names

    def grow(self, n: int, keys: Iterable[str] | None = None) -> None:
        """Append rows, never observed, up to `n`; `keys` names the new ones where the store has keys."""
        session = self.session.to_write()
        grown = grown_keys(session.keys, len(self), n, keys)
        session.table.grow(n)
        session.keys = grown
        session.updates += 1

    def begin_run(self, name: str) -> None:
        """Begin a new training run on the same data; no effect if `name` is the current one.

        Forgetting's last correctness and the epoch clock start afresh, means and totals go on. Raises `StoreError` for
        the name of a run that has ended, and on ranks while updates wait for `sync`.
        """
        session = self.session.to_write()
        runs = session.meta["runs"]
        if name == runs[-1]:
            return
        if name in runs:
            raise StoreError(f"run {name!r} has ended, {runs[-1]!r} is the current one: name a new run.")
        session.settled("a new run is wanted")
        session.table.begin_run()
        runs.append(name)
        session.clock.show(0)
        session.updates += 1

    def commit(self, note: str = "", *, pin: bool = False) -> int:
        """Keep everything as a new version, atomically and durably -> its number, the same on every rank.

        Writes changed chunks only. `pin`: `drop_versions` spares it. Raises `StoreError` where the disk refuses, and
        `PointerMoved` where another writer has committed; either way nothing in memory is lost.
        """
        session = self.session.to_write()
        session.settled("a commit is wanted")
        if session.mode != "journal":  # the first rank alone writes; the others may run the same line
            session.commit(note, pin)
        if session.journal is not None:
            session.journal.committed()
        return session.version

    def drop_versions(self, *, keep: int) -> None:
        """Delete all versions but the newest `keep`, those pinned and the one open here, and plans no longer in force."""
        session = self.session.to_write()
        if session.mode != "journal":
            session.files.drop(keep, session.plans_in_force())

    # -- reading ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.session.table.n

    def __getitem__(self, name: str) -> np.ndarray:
        """A score, (n,) float32, NaN where never observed; read-only, and a view of the live scores where it can be one."""
        return self.values(name, slice(None))

    def values(self, name: str, part: slice) -> np.ndarray:
        """Rows `part` of a score, without reading the others from disk."""
        return self.session.drained.table.read(name, part)

    def count(self, name: str) -> np.ndarray:
        """How often each row was observed, (n,) uint32, read-only."""
        return self.session.drained.table.column(name, "count")

    def last_seen(self, name: str) -> np.ndarray:
        """The epoch in which each row was last observed, (n,) int32, −1 where never; read-only."""
        return self.session.drained.table.column(name, "last_seen")

    def observed(self, name: str) -> int:
        """How many rows have been observed."""
        return self.session.drained.table[name].book.observed

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """The rows of these keys, (len(keys),) int64. Raises `UnknownName`, a KeyError, naming the first unknown key."""
        return self.session.key_map().rows(keys)

    def key(self, row: int) -> str:
        """The key of a row."""
        return self.session.key_map().key(row)

    @property
    def has_keys(self) -> bool:
        """Whether the rows have keys."""
        return self.session.keys is not None

    def export(self, path: str | os.PathLike[str], *, plan: Plan | None = None) -> None:
        """Write the rows of `plan` (None: all) with keys and scores to a .csv, or the rows alone to a .npy."""
        export(self, path, plan)

    def plan(self, plan_id: str) -> Plan:
        """A saved plan by its id. Raises `UnknownName`."""
        return self.session.files.repository.plan(plan_id)

    def versions(self) -> list[Version]:
        """The commits, oldest first: (version, time, note, pinned), and `observed` rows."""
        return self.session.files.repository.versions.committed()

    @property
    def scores(self) -> list[ScoreLike]:
        """The scores, in the order of making."""
        return self.session.table.scores

    @property
    def names(self) -> tuple[str, ...]:
        """The scores' names, in the order of making."""
        return tuple(self.session.table.columns)

    @property
    def path(self) -> Path | str:
        """The folder that the store is in, or what its storage is called."""
        return self.session.files.path

    @property
    def mode(self) -> Mode:
        """As it was opened: "r+" to write, "r" to read, "journal" on ranks that do not write."""
        return self.session.mode

    @property
    def epoch(self) -> int:
        """The epoch that observations belong to where they do not say. Samplers and hooks set it; a loop of your own may."""
        return self.session.clock.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.session.clock.show(epoch)

    @property
    def version(self) -> int:
        """The version that this store was opened at or last committed; 0 before the first commit."""
        return self.session.version

    @property
    def made_from(self) -> MadeFrom:
        """The state of the scores now: the commit, and the updates folded in since."""
        return self.session.settled("a plan is wanted")

    @property
    def about(self) -> dict[str, Any]:
        """Where the store comes from: its uuid, which no other store has, the dataset's fingerprint, your metadata, the
        package's version, runs, and when each score was made.
        """
        told = ("fingerprint", "metadata", "package", "created", "runs", "made")
        return {"uuid": self.session.uuid} | {name: self.session.meta[name] for name in told}

    def close(self) -> None:
        """Give the lock back. What was not committed is gone; a second call does nothing."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a handle on one store: a copied model's hook records into the same

    def __reduce__(self) -> tuple[Callable[..., "ScoreStore"], tuple[Any, ...]]:
        return self.session.opener(ScoreStore.open, self.version), ()  # not what was updated since

    def __repr__(self) -> str:
        return f"ScoreStore({str(self.path)!r}, n={len(self)}, names={list(self.names)}, version={self.version})"
