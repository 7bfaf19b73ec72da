"""How a store that is there is opened: its scores are restored as of a version."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adaptive_sampler.errors import MALFORMED, AdaptiveSamplerError, InvalidValue, StoreDamaged, StoreError
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Table
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.scoring.base import Score, ScoreLike, describe, restore
from adaptive_sampler.storage.base import Hold, Lease, Storage
from adaptive_sampler.storage.files import Files, new_meta
from adaptive_sampler.storage.generation import Manifest
from adaptive_sampler.storage.meta import check_meta, kept_runs
from adaptive_sampler.storage.places import Options, Place, path_of, storage_at
from adaptive_sampler.storage.repository import Repository
from adaptive_sampler.storage.versions import Versions


@dataclass
class Opened:
    """Everything that a `ScoreStore` starts with."""

    files: Files
    table: Table
    keys: KeyMap | None
    columns: dict[str, UserColumn]
    meta: dict[str, Any]


def check_samples(found: Opened, named: KeyMap | None, fingerprint: str | None) -> None:
    """Raise `InvalidValue` if a store's keys or fingerprint say that its rows are other samples."""
    same = named is found.keys
    at = 0 if named is None or found.keys is None else found.keys.first_difference(named)
    if not same and at is not None:
        raise InvalidValue(
            f"{found.files.path} has other keys than those passed, from row {at} on: its rows are other samples. Name another "
            "path, or pass the keys that it was made with."
        )
    made_for = found.meta["fingerprint"]
    if fingerprint is not None and made_for not in (None, fingerprint):
        raise InvalidValue(
            f"{found.files.path} was made for the dataset {made_for!r}, not for {fingerprint!r}. Name another path."
        )


def open_(
    path: Place,
    version: int | None,
    mode: str,
    scores: Sequence[ScoreLike],
    steal: bool,
    storage: Storage | None = None,
    options: Options = None,
) -> Opened:
    """Open a store as of a version (None: the last commit). Arguments and errors are those of `ScoreStore.open`."""
    if mode not in ("r+", "r", "journal"):
        raise InvalidValue(f"mode={mode!r}: one of 'r+', 'r', 'journal'.")
    storage, write = one_of(*placed(path, storage, options)), mode == "r+"
    repository = Repository(storage)
    manifest, hold, lease = _manifest(repository.versions, version, mode, steal)
    try:
        table = _restore(repository, manifest, scores, write)
        files = Files(path_of(storage), repository, manifest, lease, hold=hold)
        if manifest.meta["keys"]:
            files.keys = files.kept_keys(table.n)
        files.columns = files.kept_columns()
    except BaseException as error:
        for taken in (lease, hold):
            if taken is not None:
                taken.release()
        if isinstance(error, MALFORMED) and not isinstance(error, AdaptiveSamplerError):
            raise StoreDamaged(
                f"{storage.where}: what its manifest says makes no store ({type(error).__name__}: {error}). Open another version."
            ) from error
        raise
    meta = {name: manifest.meta.get(name, new) for name, new in new_meta(table, None, None).items()}
    return Opened(files, table, files.keys, dict(files.columns), json.loads(json.dumps(meta)))


def _manifest(
    versions: Versions, version: int | None, mode: str, steal: bool
) -> tuple[Manifest, Hold | None, Lease | None]:
    """The manifest of a version, with a hold on it for a reader, or with the lease for a writer.

    A rank that keeps a journal needs no hold: it reads everything before the first rank may drop the version.
    """
    if mode == "r":
        return *versions.hold(version), None
    versions.open()  # before the lease is taken: a place without a store is left as it is
    if mode == "journal":
        return versions.manifest(version), None, None
    lease = versions.storage.lease(steal=steal)
    try:
        versions.open()  # and again after it: another writer may have committed in between
        if lease.taken_over:
            versions.take_over()
        return versions.manifest(version), None, lease
    except BaseException:
        lease.release()
        raise


def _restore(repository: Repository, manifest: Manifest, scores: Sequence[ScoreLike], write: bool) -> Table:
    """The table of a version; its columns are read when they are needed. `write`: whether the store is to be updated.

    Raises `InvalidValue` if the version does not have one of the `scores`, or describes it differently; and with `write`,
    if it has a custom score that is not among them.
    """
    check_meta(manifest.meta, manifest.version)
    given = {score.name: score for score in scores}
    restored = [_restore_score(data, given, write) for data in manifest.meta["scores"]]
    unknown = set(given) - {score.name for score in restored}
    if unknown:
        raise InvalidValue(
            f"scores={sorted(unknown)}: the store has none of that name. Add a new score by store.add(...)."
        )

    def part(counts: Mapping[str, Any], at: str) -> Table:
        """Its scores, or those of one run."""
        found = [score for score in restored if score.name in counts["books"]]
        load = repository.load(manifest, at)
        table = Table(found, manifest.meta["n"], load, manifest.meta["chunk"], counts["books"])
        for name, columns in table.columns.items():
            columns.book.observed, columns.book.observations = counts["observed"][name], counts["observations"][name]
        return table

    table = part(manifest.meta, "")
    table.runs = {int(number): part(counts, f"{number}/") for number, counts in kept_runs(manifest.meta).items()}
    return table


def _restore_score(data: dict[str, Any], given: Mapping[str, ScoreLike], write: bool) -> ScoreLike:
    """The score that `data` describes: the one in `given`, a built-in one, or a custom one that can only be read."""
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
    """Stands for the measure of a custom score that was not passed to `open`; it only raises `StoreError`."""
    raise StoreError("a custom score's measure is needed to update it: open the store with scores=[...].")


def placed(path: Place, storage: Storage | None, options: Options) -> tuple[Place, Storage | None]:
    """The path and the storage; with `options`, the storage of that path. Raises `InvalidValue` if `options` have no path."""
    if options is None:
        return path, storage
    if path is None or storage is not None:
        raise InvalidValue(f"options={sorted(options)}: options are an object store's. Pass them with a path, s3://… .")
    return None, storage_at(path, options)


def one_of(path: Place, storage: Storage | None) -> Storage:
    """The storage that was passed, or the one that the path names. Raises `InvalidValue` unless just one is given."""
    if storage is None and path is not None:
        return storage_at(path)
    if storage is None or path is not None:
        raise InvalidValue(f"path={path!r}, storage={storage!r}: a path says where the store is, or a storage does.")
    if not isinstance(storage, Storage):
        raise InvalidValue(
            f"storage={storage!r} is no Storage: adaptive_sampler.testing.check_storage says what one does."
        )
    return storage
