"""How a new store is made: a place for it is found empty or is cleared, and its first version is committed."""

import contextlib
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue, StoreDamaged, StoreError
from adaptive_sampler.memory.body import Body
from adaptive_sampler.memory.table import Runs, Table
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.memory.user_columns import made_new
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.storage.base import LEASE, POINTER, Storage
from adaptive_sampler.storage.files import Files, added_later, close, grown_keys, new_meta
from adaptive_sampler.storage.generation import Manifest, manifest_name
from adaptive_sampler.storage.local import LocalStorage
from adaptive_sampler.storage.opening import Opened, check_samples, one_of, open_, placed
from adaptive_sampler.storage.places import Options, Place, path_of
from adaptive_sampler.storage.plans import PLANS
from adaptive_sampler.storage.repository import Repository


def create(
    path: Place,
    n: int,
    scores: Sequence[ScoreLike],
    keys: Iterable[str] | None,
    fingerprint: str | None,
    overwrite: bool,
    metadata: Mapping[str, Any] | None,
    storage: Storage | None = None,
    exist_ok: bool = False,
    columns: Mapping[str, Any] | None = None,
    options: Options = None,
    runs: Runs = "mean",
) -> Opened:
    """Make an empty store and commit it as version 0. Arguments and errors are those of `ScoreStore.create`."""
    if overwrite and exist_ok:
        raise InvalidValue(
            "overwrite=True, exist_ok=True: a store that is there is replaced or gone on with. Pass one."
        )
    path, storage = placed(path, storage, options)
    n = whole_number("n", n, 1, what="the number of rows", otherwise="; usually len(dataset)")
    table = Table(list(scores), n)  # this may raise, so nothing is written before it
    if runs not in get_args(Runs):
        raise InvalidValue(f"runs={runs!r}: one of 'mean', 'kept'.")
    if runs == "kept":
        table.keep_run(0)
    own = {name: made_new(name, values, table) for name, values in (columns or {}).items()}
    if exist_ok and (found := _existing(path, scores, table, keys, fingerprint, own, storage)) is not None:
        return found
    named = None if keys is None else grown_keys(None, 0, n, keys)
    body = Body(table, named, fingerprint, columns=own)
    return begin(path, body, "created", overwrite, metadata, storage, exist_ok, first=0)


def begin(
    path: Place,
    body: Body,
    note: str,
    overwrite: bool,
    metadata: Mapping[str, Any] | None = None,
    storage: Storage | None = None,
    exist_ok: bool = False,
    *,
    first: int = 1,
) -> Opened:
    """Commit `body` as version `first` of a new store, with `note`; 0 if nothing was observed yet.

    The other arguments and errors are those of `create`.
    """
    table, keys, columns = body.table, body.keys, dict(body.columns)
    meta = new_meta(table, body.fingerprint, metadata) | {"epoch": body.epoch, "runs": [*body.runs]}
    temporary = path is None and storage is None
    if temporary:
        storage = LocalStorage(tempfile.mkdtemp(prefix="adaptive-sampler-"), lasting=False)
    storage = one_of(path, storage)
    _make_room(storage, overwrite or (exist_ok and _begun(storage)))
    lease = storage.lease()
    try:
        if overwrite or (exist_ok and _begun(storage)):
            _clear(storage)
        repository = Repository(storage)
        repository.versions.create(first)
        files = Files(path_of(storage), repository, Manifest(-1, {}), lease, temporary)
        files.commit(table, files.take(table, keys, columns, meta, note=note, pin=False))
    except BaseException:
        lease.release()
        raise
    return Opened(files, table, keys, columns, meta)


def _existing(
    path: Place,
    scores: Sequence[ScoreLike],
    asked: Table,
    keys: Iterable[str] | None,
    fingerprint: str | None,
    columns: Mapping[str, UserColumn],
    storage: Storage | None,
) -> Opened | None:
    """The store that is there, to go on with; None if there is none.

    Raises `InvalidValue` unless it has the rows and scores of `asked`, these keys and columns, and this fingerprint if both have
    one. Columns that it does not have yet are added to it.
    """
    if path is None and storage is None:
        return None
    try:
        found = open_(path, None, "r+", scores, steal=False, storage=storage)
    except StoreDamaged:
        if _begun(one_of(path, storage)):
            return None
        raise
    try:
        runs: Runs = "kept" if asked.runs else "mean"
        found.table.check_same(found.files.path, asked.n, scores, added_later(found.meta), runs)
        named = None if keys is None else grown_keys(None, 0, asked.n, keys)
        check_samples(found, named, fingerprint)
        _add_columns(found, columns)
    except BaseException:
        close(found.files)
        raise
    return found


def _add_columns(found: Opened, columns: Mapping[str, UserColumn]) -> None:
    """Add columns to a store. Raises `InvalidValue` if it has one of that name with other values."""
    for name, column in columns.items():
        if name in found.table.columns:
            raise InvalidValue(f"column name {name!r}: {found.files.path} has a score of that name. Take another one.")
        there = found.columns.get(name)
        row = None if there is None else there.first_difference(column)
        if there is not None and row is not None:
            raise InvalidValue(
                f"{found.files.path} has another column {name!r}, from row {row} on: {there.value(row)!r} there, "
                f"{column.value(row)!r} passed. Name another path, or open the store and set the column: "
                f"store.columns[{name!r}] = values."
            )
    found.columns.update({name: column for name, column in columns.items() if name not in found.columns})


def _begun(storage: Storage) -> bool:
    """Whether a place holds nothing, or only what is left of a store's making that was cut off before its first commit."""
    return Repository(storage).versions.unbegun() and all(map(_is_ours, storage.names()))


def _make_room(storage: Storage, overwrite: bool) -> None:
    """Raise `StoreError` if the place holds anything; with `overwrite`, a store may be there, complete or half made."""
    found = [name for name in storage.names() if name != "manifests" or storage.names(name)]
    if found in ([], [LEASE]):  # nothing, or what the making of a store left that failed
        return
    foreign = [name for name in found if not _is_ours(name)] or _other_versions(storage)
    if foreign or not {POINTER, LEASE} & set(found):
        what = (foreign or [f"no {POINTER}"])[0]
        raise StoreError(f"{storage.where} holds something else than a store ({what}). Name another place.")
    if not overwrite:
        raise StoreError(
            f"{storage.where} holds a store already. Open it with ScoreStore.open, go on with it by create(..., "
            "exist_ok=True), or replace it by create(..., overwrite=True)."
        )
    if any(storage.held(f"manifests/{name}") for name in storage.names("manifests")):
        raise StoreError(
            f"{storage.where} cannot be replaced while it is open to read, here or in another process. Close the stores that "
            "were opened with mode='r', or name another place."
        )


def _other_versions(storage: Storage) -> list[str]:
    """The name of the manifest that shows that versions of something else are kept here, such as an index of shards."""
    versions = Repository(storage).versions
    with contextlib.suppress(StoreError):  # damaged: whatever it was
        versions.open()
        head = versions.manifest(None)
        return [] if "scores" in head.meta else [manifest_name(head.version)]
    return []


def _is_ours(name: str) -> bool:
    return name in (POINTER, LEASE, "manifests", PLANS) or bool(re.fullmatch(r"v\d+|.*\.partial", name))


def _clear(storage: Storage) -> None:
    storage.delete(POINTER)  # first, so that nobody takes what is left for a store
    for name in storage.names():
        if name != LEASE:
            storage.delete(name)
