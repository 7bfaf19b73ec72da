"""The files of an open store: commit a version, read its keys, drop old versions, and close the store."""

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler import version
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Table
from adaptive_sampler.memory.taken import TakenBook
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.memory.user_columns import KEYS, kinds
from adaptive_sampler.scoring.base import describe
from adaptive_sampler.storage import layout
from adaptive_sampler.storage.base import Hold, Lease, Storage
from adaptive_sampler.storage.generation import Manifest
from adaptive_sampler.storage.repository import Repository
from adaptive_sampler.storage.taken_version import TakenVersion

ABOUT = {"adaptive_sampler": "one version of the scores of samples: a group a score, an array a column"}


@dataclass
class Files:
    """What an open store knows of its files: where they are, the version that is open, and the writer's lease."""

    path: Path | str
    repository: Repository
    manifest: Manifest
    lease: Lease | None
    temporary: bool = False
    hold: Hold | None = None  # for a reader: keeps its version on disk although it is dropped
    keys: KeyMap | None = None  # the keys of the version that `manifest` describes
    columns: Mapping[str, UserColumn] = field(default_factory=dict)  # the columns of the user's own of that version

    def commit(self, table: Table, taken: TakenVersion) -> None:
        """Write what was taken as a new version. Raises as `Versions.commit` does; then it counts as not committed."""
        try:
            manifest = taken.write()
        except BaseException:
            self.give_back(table, taken)
            raise
        self.adopt(table, taken, manifest)

    def take(
        self,
        table: Table,
        keys: KeyMap | None,
        columns: Mapping[str, UserColumn],
        meta: dict[str, Any],
        *,
        note: str,
        pin: bool,
        copied: bool = False,
    ) -> TakenVersion:
        """Take the table, the keys, the columns of the user's own and `meta`, to be written as a new version.

        `copied`: whether the table may change before they are written. Raises `InvalidValue` for a `note` that is no str.
        """
        if not isinstance(note, str):
            raise InvalidValue(f"note={note!r}: a string.")
        arrays = layout.beside(table, keys, columns)
        signature = _signature(table, arrays)
        counts = _counts(table)
        meta = (
            deepcopy(meta)
            | counts
            | {
                "n": table.n,
                "chunk": table.chunk,
                "scores": [describe(score) for score in table.scores],
                "parent": self.manifest.version,
                "layout": None if self.temporary else signature,  # None: a copy's first commit writes zarr.json
                "keys": keys is not None,
                "columns": kinds(columns),
                "kept_runs": {str(number): _counts(run) for number, run in table.runs.items()},
            }
        )
        # Only this package reads a temporary store. It needs no zarr.json, so the slow import of zarr is saved.
        same = self.temporary or self.manifest.meta.get("layout") == signature
        objects = None if same else layout.metadata(table, arrays, kinds(columns), ABOUT)
        books = [TakenBook(book, at, copied=copied) for at, part in table.parts() for book in part.books]
        write = partial(
            self.repository.commit,
            self.manifest if self.manifest.version >= 0 else None,
            books,
            self._beside(table.chunk, keys, columns),
            objects,
            meta,
            note=note,
            pin=pin,
            observed=max(counts["observed"].values(), default=0),
        )
        return TakenVersion(write, books, table.n, table.chunk, keys, dict(columns))

    def adopt(self, table: Table, taken: TakenVersion, manifest: Manifest) -> None:
        """Go on from a version that was written: what is still on disk is read from it."""
        self.manifest = manifest
        if taken.keys is not None and taken.keys is not self.keys:
            taken.keys.settle(self.kept_keys(taken.n))
        self.keys, self.columns = taken.keys, taken.columns
        for at, part in table.parts():
            for book in part.books:
                book.committed(self.repository.load(manifest, at))
        for name, column in taken.columns.items():
            column.committed(taken.chunk, self.repository.read(manifest, name))

    def give_back(self, table: Table, taken: TakenVersion) -> None:
        """Let what was taken, and could not be written, count as not committed."""
        parts = dict(table.parts())
        for book in taken.books:
            if book.at in parts:  # else it is of a run that had observed nothing when it ended
                book.give_back(parts[book.at].books)

    def _beside(
        self, chunk: int, keys: KeyMap | None, columns: Mapping[str, UserColumn]
    ) -> dict[str, list[np.ndarray] | None]:
        """The objects beside the scores: the parts of each by its name, or None where the last version has the same."""
        found: dict[str, list[np.ndarray] | None] = {}
        for name, texts in ({} if keys is None else keys.arrays()).items():
            found[f"{KEYS}/{name}/c/0"] = None if keys is self.keys else [texts]
        for name, column in columns.items():
            kept = self.columns.get(name) is column
            for array, index in column.objects(chunk):
                found[f"{name}/{array}/c/{index}"] = None if kept else column.parts(array, index, chunk)
        return found

    def about(self, meta: Mapping[str, Any], columns: Mapping[str, UserColumn]) -> dict[str, Any]:
        """Where the store comes from; see `ScoreStore.about`."""
        told = ("fingerprint", "metadata", "package", "created", "runs", "made")
        return {"uuid": self.uuid} | {name: meta[name] for name in told} | {"columns": kinds(columns)}

    @property
    def uuid(self) -> str:
        """The store's identifier, which no other store has."""
        return self.repository.versions.pointer.uuid

    @property
    def storage(self) -> Storage:
        """The storage that holds the files."""
        return self.repository.versions.storage

    def kept_columns(self) -> dict[str, UserColumn]:
        """The columns of the user's own of the open version, which are read when they are needed."""
        meta, read = self.manifest.meta, self.repository.read
        return {
            name: UserColumn.on_disk(kind, meta["n"], meta["chunk"], read(self.manifest, name))
            for name, kind in meta["columns"].items()
        }

    def kept_keys(self, n: int) -> KeyMap:
        """The keys of the open version, `n` in number, with their arrays on disk."""
        text, ends = self.repository.arrays(self.manifest, [f"keys/{name}" for name in KeyMap.ARRAYS])
        return KeyMap.restored(text, ends, n)

    @property
    def next_version(self) -> int:
        """The number of the next commit."""
        return self.repository.versions.next

    def drop(self, keep: int, in_force: Iterable[str]) -> None:
        """Drop all but the newest `keep` versions, and their plans except those `in_force`; see `Repository.drop`."""
        self.repository.drop(keep, self.manifest.version, in_force)


def close(files: Files) -> None:
    """End a reader's hold; or give a writer's lock back and delete a temporary store, unless another process opened it."""
    if files.hold is not None:
        files.hold.release()
    if files.lease is None or not files.lease.mine:
        return
    files.lease.release()
    if files.temporary:
        shutil.rmtree(files.path, ignore_errors=True)


def grown_keys(old: KeyMap | None, have: int, n: int, keys: Iterable[str] | None) -> KeyMap | None:
    """The keys of a store that grows from `have` rows to `n`, or None if it has none. `keys`: those of the new rows.

    Raises `InvalidValue` if keys are missing or not wanted, if their number is wrong, or if a key comes twice.
    """
    if keys is None:
        if old is not None:
            raise InvalidValue(f"grow({n}): this store has keys, so its {n - have} new rows need keys too. Pass keys=.")
        return None
    if have and old is None:
        raise InvalidValue("grow(keys=...): this store was made without keys. Grow it without, or make a new one.")
    new = list(keys)
    if len(new) != n - have:
        raise InvalidValue(f"{len(new)} keys for {n - have} rows: one key a row is needed.")
    return KeyMap.of(new) if old is None else old.grown(new)


def made_now() -> dict[str, Any]:
    """The time now, in seconds since 1970, and the version of this package, to be kept with what is made now."""
    return {"time": time.time(), "package": version.installed()}


def added_later(meta: Mapping[str, Any]) -> list[str]:
    """The names of the scores that were added to a store after its making, by a script or by a hook."""
    return [name for name, made in meta["made"].items() if made.get("added")]


def new_meta(table: Table, fingerprint: str | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metadata of a new store. Raises `InvalidValue` if `metadata` is not JSON data."""
    try:
        plain = json.loads(json.dumps(dict(metadata or {})))
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"metadata={metadata!r}: JSON data is needed ({error}).") from error
    now = made_now()
    return {
        "epoch": 0,
        "delivered": 0,
        "whose": None,  # the sampler's of which these are: `AdaptiveSampler.whose`
        "walks": [],  # of ranks, for each sampler: `VisitTally.told`
        "runs": [""],
        "fingerprint": fingerprint,
        "metadata": plain,
        "package": now["package"],
        "created": now["time"],
        "made": dict.fromkeys(table.columns, now),
    }


def _signature(table: Table, arrays: Mapping[str, layout.Array]) -> int:
    """A checksum that changes whenever the zarr.json objects of a version must be written anew."""
    shapes = {name: (array.n, array.column.dtype) for name, array in arrays.items()}
    scores = [describe(score) for score in table.scores]
    runs = {at: [*part.columns] for at, part in table.parts() if at}
    return checksum([json.dumps([table.n, table.chunk, scores, shapes, *([runs] if runs else [])]).encode()])


def _counts(table: Table) -> dict[str, dict[str, int]]:
    """How often each score was observed, and how often each of its rows; and which scores share a book."""
    return {
        "observations": {name: columns.book.observations for name, columns in table.columns.items()},
        "observed": {name: columns.book.observed for name, columns in table.columns.items()},
        "books": {score.name: number for number, book in enumerate(table.books) for score in book.scores},
    }
