"""The score store: every score of every row in memory, kept as versions by atomic commits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from adaptive_sampler import making
from adaptive_sampler.arrays import as_rows
from adaptive_sampler.committing import Committing
from adaptive_sampler.kernels.identity import Identity, RowIdentity
from adaptive_sampler.markup import card, share
from adaptive_sampler.memory.table import Runs
from adaptive_sampler.memory.user_columns import UserColumns
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.session import Mode, Session
from adaptive_sampler.storage import creating, opening
from adaptive_sampler.storage.base import Storage
from adaptive_sampler.storage.places import Options, Place
from adaptive_sampler.tables.asked import Scores
from adaptive_sampler.tables.folding import fold_table
from adaptive_sampler.tables.frames import to_arrow, to_pandas
from adaptive_sampler.tables.own import Columns
from adaptive_sampler.tables.writing import export

OPEN = {"r+": "to read and write", "r": "to read", "journal": "on a rank that does not write to disk"}


class ScoreStore(Committing):
    """The scores of `len(store)` rows. Make one with `create` or `open`, `update` it in training, `commit` it to keep it.

    Updates go into this process's memory. Only a commit makes them durable, and it is atomic: a reader sees all of it or
    nothing. `session` is the inside of the store, for hooks and samplers; users do not need it.
    """

    def __init__(self, opened: opening.Opened, mode: Mode) -> None:
        """Not for users, who make stores with `create` and `open`."""
        self.session = Session(opened, mode)

    @classmethod
    def create(
        cls,
        path: Place,
        n: int,
        scores: Sequence[ScoreLike],
        *,
        keys: Iterable[str] | None = None,
        fingerprint: str | None = None,
        overwrite: bool = False,
        metadata: Mapping[str, Any] | None = None,
        storage: Storage | None = None,
        exist_ok: bool = False,
        columns: Mapping[str, Any] | None = None,
        options: Options = None,
        runs: Runs = "mean",
    ) -> Self:
        """Make a new, empty store of `n` rows, open for writing; or open the one that is there.

        `path`: a folder; "s3://…", "gs://…" or "az://…", with obstore's `options` (None: those of the environment); "memory://…",
        while the process lives; None, for a temporary folder that goes with the store. `storage`: a `Storage` of your own,
        with `path` None. `keys`: the rows' names, `n` different strings. `fingerprint`: that of the dataset; `IndexedDataset`
        compares it with its own. `metadata`: JSON data of your own. `columns`: name -> values, as in `store.columns`.
        `overwrite`: replace a store that is there; `exist_ok`: open it and go on with its scores, if it has these rows, scores,
        keys and columns; scores that were added to it need not be named, and columns that it lacks are added.
        `runs`: "kept" keeps what each training run observed apart, too, for `ranking.runs` and `ranking.bands`; each then takes the
        room of a store.

        Raises `StoreError` if the place holds a store and neither is asked for, or holds anything else; `StoreLocked` if a
        writer holds that store; `InvalidValue` for an argument that breaks a rule.
        """
        about = keys, fingerprint, overwrite, metadata, storage, exist_ok, columns, options, runs
        return cls(creating.create(path, n, scores, *about), "r+")

    @classmethod
    def open(
        cls,
        path: Place = None,
        *,
        version: int | None = None,
        mode: Mode = "r+",
        scores: Sequence[ScoreLike] = (),
        steal: bool = False,
        storage: Storage | None = None,
        options: Options = None,
    ) -> Self:
        """Open the store at `path`, or in `storage`, as of its last commit, or as of commit `version`.

        `mode`: "r+" to write, for one process at a time; "r" to read, for any number. `scores`: the custom scores, which a
        store cannot restore by itself. `steal`: take the lock of a writer elsewhere that is gone for good. `options`: as in
        `create`. Raises `StoreLocked` if another writer holds the store, `NoStore` if nothing is there, `StoreDamaged` if what
        is there is not what was committed, and `UnknownName` if there is no such version.
        """
        return cls(opening.open_(path, version, mode, scores, steal, storage, options), mode)

    @classmethod
    def from_table(
        cls,
        path: Place,
        source: Any,
        scores: Scores = None,
        *,
        key: str | None = None,
        epoch: int = 0,
        fingerprint: str | None = None,
        overwrite: bool = False,
        columns: Columns = None,
        options: Options = None,
    ) -> Self:
        """Make a new store from a table (`source`: as in `fold_table`): to the bit what was there, if `export` wrote it.

        Runs that are kept apart are in no table.

        `scores`: column -> score, or scores in columns of their names; None: those that `export` noted. In other tables a value
        counts as observed once, in `epoch`, null and NaN as never. `columns`: those of your own, or column -> name; None: those
        that `export` noted. `key`: the column with keys; None: "key", if there is one. A column "row" says which row a line is.
        `path`, `fingerprint`, `overwrite`, `options`: as in `create`. Raises `InvalidValue` for a line that cannot be right.
        """
        return cls(making.from_table(path, source, scores, key, epoch, fingerprint, overwrite, columns, options), "r+")

    @classmethod
    def merge(cls, path: Place, stores: Sequence[Self], *, overwrite: bool = False, options: Options = None) -> Self:
        """Make a new store at `path` of what several open `stores` observed of the same samples, as if one had.

        Rows are told by their keys or, without keys, by their numbers; they are those of the first store. Columns of your own
        must agree. `overwrite`, `options`: as in `create`. Raises `InvalidValue` for stores that do not fit together, and for a
        row that its fold cannot merge.
        """
        return cls(making.merge(path, stores, overwrite, options), "r+")

    # -- writing ------------------------------------------------------------------------------------------------------

    def update(self, rows: Any, *, epoch: int | None = None, **observation: Any) -> None:
        """Measure an observation and fold the values into every score whose inputs it brings.

        `rows`: (batch,) integers. Every array of the observation has the same leading axis, and may be of any framework. A
        row that comes twice is folded twice, in order. `epoch`: when it was observed; None for `store.epoch`. Raises
        `RowError` for a row outside the store, and `InvalidValue` for a value that is not finite, for wrong shapes, and for an
        observation that feeds no score. Nothing is changed then.
        """
        session = self.session.to_write()
        session.update(as_rows(rows, len(self)), observation, epoch=epoch)

    def fold(self, name: str, rows: Any, values: Any, *, epoch: int | None = None) -> None:
        """Fold values that you have measured yourself, (batch,), into the score `name`; otherwise as `update`.

        Raises `UnknownName` if there is no such score.
        """
        session = self.session.to_write()
        session.table[name]  # raises for an unknown name, before the rows are checked
        session.fold_values(as_rows(rows, len(self)), {name: values}, epoch=epoch)

    fold_table, export, to_arrow, to_pandas = fold_table, export, to_arrow, to_pandas

    def add(self, score: ScoreLike) -> None:
        """Add a score, also to an old store; no row counts as observed for it yet. On ranks, call it on every rank after `sync`.

        Raises `InvalidValue` if the name is taken, and `StoreError` on ranks while updates wait for `sync`.
        """
        self.session.to_write().add(score)

    def grow(self, n: int, keys: Iterable[str] | None = None) -> None:
        """Append rows that were never observed, up to `n` in all; `keys` names the new rows if the store has keys.

        Columns of your own are to be set anew. Raises `InvalidValue` for an `n` below the present one, and for keys that are
        missing or taken.
        """
        self.session.to_write().grow(n, keys)

    def begin_run(self, name: str) -> None:
        """Begin a new training run on the same data; does nothing if `name` is the current run.

        The epoch starts again at 0, and forgetting no longer knows which rows were right last; means and totals go on. Where the
        store keeps its runs apart, what is observed from now on belongs to this one. Raises `StoreError` for the name of a run that
        has ended, and on ranks while updates wait for `sync`.
        """
        self.session.to_write().begin_run(name)

    # -- reading ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.session.table.n

    def __getitem__(self, name: str) -> np.ndarray:
        """A score, (n,) float32, NaN for rows that were never observed; read-only.

        If the fold keeps it in one column, this is a view, which later updates change. Raises `UnknownName`.
        """
        return self.values(name, slice(None))

    def values(self, name: str, part: slice) -> np.ndarray:
        """`store[name][part]`, without reading other chunks from disk. Raises `InvalidValue` for a step other than 1."""
        return self.session.drained.table.read(name, part)

    def count(self, name: str) -> np.ndarray:
        """How often each row was observed for the score `name`, (n,) uint32, read-only."""
        return self.session.drained.table.column(name, "count")

    def last_seen(self, name: str) -> np.ndarray:
        """The epoch in which each row was last observed for the score `name`, (n,) int32, −1 if never; read-only."""
        return self.session.drained.table.column(name, "last_seen")

    def observed(self, name: str) -> int:
        """How many rows have been observed for the score `name`."""
        return self.session.drained.table[name].book.observed

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """The rows of these keys, (len(keys),) int64. Raises `UnknownName`, a KeyError, for the first unknown key."""
        return self.session.key_map().rows(keys)

    def key(self, row: int) -> str:
        """The key of a row. Raises `StoreError` if the store has no keys."""
        return self.session.key_map().key(row)

    @property
    def identity(self) -> Identity:
        """What names the rows past this process, and plans hash: their keys, else their numbers."""
        return RowIdentity(len(self)) if self.session.keys is None else self.session.keys.identity

    @property
    def columns(self) -> UserColumns:
        """Columns of your own beside the scores, as a dict of arrays, (n,) each: `store.columns["source"] = values`."""
        return UserColumns(self.session)

    @property
    def scores(self) -> list[ScoreLike]:
        """The scores, in the order in which they were added."""
        return self.session.table.scores

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scores, in the order in which they were added."""
        return tuple(self.session.table.columns)

    @property
    def path(self) -> Path | str:
        """The folder that the store is in, or the name of its storage."""
        return self.session.files.path

    @property
    def epoch(self) -> int:
        """The epoch of observations that come without one. Samplers and hooks set it; your loop may, too.

        Of several samplers of one store, it is that of the one that began an epoch last, or whose batch a hook watched last.
        """
        return self.session.clock.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.session.clock.show(epoch)

    @property
    def about(self) -> dict[str, Any]:
        """Where the store comes from: `uuid`, which no other store has; `fingerprint` of the dataset; `metadata` of your own;
        `package`, which made it; `created`, in seconds since 1970; `runs`; `made`, of each score; `columns`, what each holds.
        """
        return self.session.files.about(self.session.meta, self.session.columns)

    def close(self) -> None:
        """Give the lock back. Updates that were not committed are lost; a second call does nothing."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # the hook of a copied model records into the same store

    def __reduce__(self) -> tuple[Callable[..., "ScoreStore"], tuple[Any, ...]]:
        return self.session.opener(ScoreStore.open, self.version), ()  # without the updates since that commit

    def __repr__(self) -> str:
        return f"ScoreStore({str(self.path)!r}, n={len(self)}, names={list(self.names)}, version={self.version})"

    def _repr_html_(self) -> str:
        session, n = self.session, len(self)
        waiting = f", and {session.updates:,} updates since" if session.updates else ""
        facts = {
            "path": self.path,
            "rows": f"{n:,}, with keys" if session.keys is not None else f"{n:,}, without keys",
            "columns of your own": ", ".join(session.columns) or "none",
            "version": (str(self.version) if self.version else "none is committed") + waiting,
            "epoch": self.epoch,
            "open": "closed" if session.closed else OPEN[session.mode],
        }
        # Of hooks that still hold something nothing is asked: it may wait for a device.
        columns = session.table.columns.items()
        lines = ((name, share(c.book.observed, n), f"{c.book.observations:,}", c.score.fold) for name, c in columns)
        return card("ScoreStore", facts, ("score", "rows observed", "observations", "folded by"), lines)
