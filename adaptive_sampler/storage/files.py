"""A store's files, opened: making a new store, restoring one at a version, committing it, and giving it back."""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler.checks import whole_number
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import AdaptiveSamplerError, InvalidValue, StoreDamaged, StoreError
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Table
from adaptive_sampler.scoring.base import Score, ScoreLike, describe, restore
from adaptive_sampler.storage import layout
from adaptive_sampler.storage.generation import Manifest
from adaptive_sampler.storage.local import POINTER, LocalStorage
from adaptive_sampler.storage.lock import WriterLock
from adaptive_sampler.storage.repository import Repository

ABOUT = {"adaptive_sampler": "one version of the scores of samples: a group a score, an array a column"}


@dataclass
class Files:
    """What an open store holds of its disk."""

    path: Path
    repository: Repository
    manifest: Manifest
    lock: WriterLock | None
    temporary: bool = False
    keys: KeyMap | None = None  # as they are in `manifest`

    def commit(self, table: Table, keys: KeyMap | None, meta: dict[str, Any], *, note: str, pin: bool) -> None:
        """Write the table as a new version."""
        if not isinstance(note, str):
            raise InvalidValue(f"note={note!r}: a string.")
        arrays = {} if keys is None else {f"keys/{name}": array for name, array in keys.arrays().items()}
        signature = _signature(table, arrays)
        observed = {name: columns.book.observed for name, columns in table.columns.items()}
        meta = meta | {
            "n": table.n,
            "chunk": table.chunk,
            "scores": [describe(score) for score in table.scores],
            "observations": {name: columns.book.observations for name, columns in table.columns.items()},
            "observed": observed,
            "parent": self.manifest.version,
            "layout": None if self.temporary else signature,  # there is none yet: a durable commit of a copy writes it
            "keys": keys is not None,
            "books": {score.name: number for number, book in enumerate(table.books) for score in book.scores},
        }
        # A temporary store is read by this package alone, which needs no zarr.json: zarr takes a while to import.
        same = self.temporary or self.manifest.meta.get("layout") == signature
        self.manifest = self.repository.commit(
            self.manifest if self.manifest.version >= 0 else None,
            table.books,
            {} if keys is self.keys else arrays,
            None if same else lambda: layout.metadata(table.scores, table.n, table.chunk, arrays, ABOUT),
            meta,
            note=note,
            pin=pin,
            observed=max(observed.values(), default=0),
        )
        if keys is not None and keys is not self.keys:
            keys.settle(self.kept_keys(table.n))
        self.keys = keys
        for book in table.books:
            book.dirty[:] = False

    def kept_keys(self, n: int) -> KeyMap:
        """The keys as the version on disk has them."""
        text, ends = (self.repository.array(self.manifest, f"keys/{name}") for name in KeyMap.ARRAYS)
        return KeyMap.restored(text, ends, n)

    @property
    def next_version(self) -> int:
        """The number of the next commit."""
        return self.repository.pointer.highest + 1

    def drop(self, keep: int, in_force: Iterable[str]) -> None:
        """Drop old versions, and their plans but for those `in_force`."""
        self.repository.drop(keep, self.manifest.version, in_force)


@dataclass
class Opened:
    """Everything that a `ScoreStore` starts with."""

    files: Files
    table: Table
    keys: KeyMap | None
    meta: dict[str, Any]


def create(
    path: str | os.PathLike[str] | None,
    n: int,
    scores: Sequence[ScoreLike],
    keys: Iterable[str] | None,
    fingerprint: str | None,
    overwrite: bool,
    metadata: Mapping[str, Any] | None,
) -> Opened:
    """Make an empty store and commit it as version 0."""
    n = whole_number("n", n, 1, what="the number of rows", otherwise="; usually len(dataset)")
    table = Table(list(scores), n)  # before anything is written: it may refuse
    named = None if keys is None else grown_keys(None, 0, n, keys)
    meta = _new_meta(table, fingerprint, metadata)
    folder = Path(tempfile.mkdtemp(prefix="adaptive-sampler-")) if path is None else Path(path)
    if path is not None:
        _make_room(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(folder / "LOCK")
    try:
        if overwrite:
            _clear(folder)
        repository = Repository(LocalStorage(folder, lasting=path is not None), str(folder))
        repository.create()
        files = Files(folder, repository, Manifest(-1, {}), lock, temporary=path is None)
        files.commit(table, named, meta, note="created", pin=False)
    except BaseException:
        lock.release()
        raise
    return Opened(files, table, named, meta)


def open_(
    path: str | os.PathLike[str], version: int | None, mode: str, scores: Sequence[ScoreLike], steal: bool
) -> Opened:
    """Open a store as of a version."""
    if mode not in ("r+", "r", "journal"):
        raise InvalidValue(f"mode={mode!r}: one of 'r+', 'r', 'journal'.")
    folder, write = Path(path), mode == "r+"
    if not folder.is_dir():
        raise StoreDamaged(f"{folder} is no folder, so no store. Make one with ScoreStore.create(path, n, scores).")
    repository = Repository(LocalStorage(folder), str(folder))
    repository.open()  # before the lock: what is no store is refused without a trace
    lock = WriterLock(folder / "LOCK", steal=steal) if write else None
    try:
        repository.open()  # and after it: the last writer may just have committed
        manifest = repository.manifest(version)
        table = _restore(repository, manifest, scores, write)
        files = Files(folder, repository, manifest, lock)
        if manifest.meta["keys"]:
            files.keys = files.kept_keys(table.n)
    except BaseException as error:
        if lock:
            lock.release()
        malformed = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError)
        if isinstance(error, malformed) and not isinstance(error, AdaptiveSamplerError):
            raise StoreDamaged(
                f"{folder}: what its manifest says makes no store ({type(error).__name__}: {error}). Open another version."
            ) from error
        raise
    meta = {name: manifest.meta[name] for name in _new_meta(table, None, None)}
    return Opened(files, table, files.keys, json.loads(json.dumps(meta)))


def close(files: Files) -> None:
    """Give the lock back, and remove a temporary store; only in the process that opened it."""
    if files.lock is None or not files.lock.mine:
        return
    files.lock.release()
    if files.temporary:
        shutil.rmtree(files.path, ignore_errors=True)


def grown_keys(old: KeyMap | None, have: int, n: int, keys: Iterable[str] | None) -> KeyMap | None:
    """The keys of a store that grows from `have` rows to `n`."""
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
    """When and by which version of this package something was made."""
    try:
        package = package_version("adaptive-sampler")
    except PackageNotFoundError:  # run from a checkout
        package = "unknown"
    return {"time": time.time(), "package": package}


def _new_meta(table: Table, fingerprint: str | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        plain = json.loads(json.dumps(dict(metadata or {})))
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"metadata={metadata!r}: JSON data is needed ({error}).") from error
    now = made_now()
    return {
        "epoch": 0,
        "delivered": 0,
        "runs": [""],
        "fingerprint": fingerprint,
        "metadata": plain,
        "package": now["package"],
        "created": now["time"],
        "made": dict.fromkeys(table.columns, now),
    }


def _restore(repository: Repository, manifest: Manifest, scores: Sequence[ScoreLike], write: bool) -> Table:
    """The table of a version; its columns are read when they are needed."""
    given = {score.name: score for score in scores}
    restored = [_restore_score(data, given, write) for data in manifest.meta["scores"]]
    unknown = set(given) - {score.name for score in restored}
    if unknown:
        raise InvalidValue(
            f"scores={sorted(unknown)}: the store has none of that name. Add a new score by store.add(...)."
        )
    meta = manifest.meta
    table = Table(
        restored,
        int(meta["n"]),
        lambda name: repository.loader(manifest, name),
        int(meta["chunk"]),
        {name: int(number) for name, number in meta["books"].items()},
    )
    for name, columns in table.columns.items():
        columns.book.observed, columns.book.observations = int(meta["observed"][name]), int(meta["observations"][name])
    return table


def _restore_score(data: dict[str, Any], given: Mapping[str, ScoreLike], write: bool) -> ScoreLike:
    name = data["name"]
    if name in given:
        if describe(given[name]) != data:
            raise InvalidValue(
                f"the store's {name!r} is {data}, the one passed is {describe(given[name])}: scores made in two ways cannot "
                "share a column. Pass the same one, or add yours under another name."
            )
        return given[name]
    if data["kind"] != "custom":
        score: ScoreLike = restore(data)
        return score
    if write:
        raise InvalidValue(f"score {name!r} is a custom one ({data['type']}): pass it again, open(..., scores=[...]).")
    return Score(name, _not_given, restore(data["fold"]))


def _not_given(this_score_was_not_passed_to_open: Any) -> Any:
    raise StoreError("a custom score's measure is needed to update it: open the store with scores=[...].")


def _make_room(folder: Path, overwrite: bool) -> None:
    """Refuse a path that holds something; a store, whole or half made, may be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file. Name a folder that does not exist yet.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    ours = (folder / POINTER).exists() or (folder / "LOCK").exists()
    foreign = [p.name for p in folder.iterdir() if not _is_ours(p.name)]
    if foreign or not ours:
        raise StoreError(
            f"{folder} holds something else than a store ({(foreign or ['no CURRENT'])[0]}). Name another folder."
        )
    if not overwrite:
        raise StoreError(
            f"{folder} holds a store already. Open it with ScoreStore.open, or create(..., overwrite=True)."
        )


def _is_ours(name: str) -> bool:
    return name in (POINTER, "LOCK", "manifests", "plans") or bool(re.fullmatch(r"v\d+|.*\.partial", name))


def _clear(folder: Path) -> None:
    (folder / POINTER).unlink(missing_ok=True)  # first: from here on it is no store
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "LOCK":
            entry.unlink()


def _signature(table: Table, arrays: Mapping[str, np.ndarray]) -> int:
    """Changes whenever the zarr.json objects of a version must be made anew."""
    shapes = {name: len(array) for name, array in arrays.items()}
    scores = [describe(score) for score in table.scores]
    return checksum([json.dumps([table.n, table.chunk, scores, shapes]).encode()])
