"""The folder that `TablePlan.write` makes: a Parquet file for each partition, and a manifest that says what they are."""

import contextlib
import fcntl
import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from adaptive_sampler.disk import PARTIAL, sync, whole_file, write_whole
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.tables.arrow.files import GROUP, in_groups
from adaptive_sampler.tables.planned.folder import COLUMNS, FORMAT, MANIFEST

_WRITER = "writer"  # the file in an unfinished folder that its writer holds locked
_own: set[Path] = set()  # the unfinished folders of this process, without symbolic links


def schema_of(text: bool) -> Any:
    """The columns of a plan's lines: the key, how often the line is visited, and with which loss weight.

    text: whether the keys are texts, else they are row numbers.
    """
    kinds = (pa.large_string() if text else pa.int64(), pa.uint32(), pa.float32())
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in zip(COLUMNS, kinds, strict=True)])


def file_of(number: int) -> str:
    """The file of a partition in the folder. Their names sort as the partitions do."""
    return f"{number:08}.parquet"


def write_lines(path: Path, batches: Iterator[Any], schema: Any) -> dict[str, int]:
    """Write the visited lines of one partition; returns how many lines and how many visits these are."""
    rows = samples = 0
    with whole_file(path) as file, parquet.ParquetWriter(file, schema, use_dictionary=["repeats", "weight"]) as writer:
        for group in in_groups(batches):
            table = pa.Table.from_batches(group, schema)
            writer.write_table(table, GROUP)
            rows += len(table)
            samples += int(table["repeats"].to_numpy().sum(dtype="int64"))
    return {"rows": rows, "samples": samples}


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to, which is renamed to `folder` when the block ends without an error.

    What killed writers of the same folder left is deleted first. Raises `InvalidValue` if `folder` is there and is not an empty
    folder, also if it comes meanwhile, and OSError where nothing can be written.
    """
    _check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _delete_leftovers(folder)
    unfinished = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    unfinished.mkdir()
    try:
        with _held(unfinished):
            yield unfinished
        for half in unfinished.glob(f"*{PARTIAL}"):  # left by a worker that was killed, whose work was done again
            half.unlink()
        sync(unfinished)
        _put_in_place(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync(folder.parent)


def _put_in_place(unfinished: Path, folder: Path) -> None:
    _check_free(folder)
    try:
        os.replace(unfinished, folder)  # over an empty folder, if there is one
    except OSError:
        _check_free(folder)  # another writer was faster
        raise


@contextlib.contextmanager
def _held(unfinished: Path) -> Iterator[None]:
    """Hold a lock on a file in the folder, which the kernel frees when this process ends, however it ends."""
    path = unfinished / _WRITER
    with open(path.with_suffix(PARTIAL), "wb") as file:
        with contextlib.suppress(OSError):  # a file system without locks: then nothing is ever taken for a leftover
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _own.add(unfinished.resolve())
            os.replace(path.with_suffix(PARTIAL), path)  # there only once it is locked
        try:
            yield
            path.unlink(missing_ok=True)
        finally:
            _own.discard(unfinished.resolve())


def _delete_leftovers(folder: Path) -> None:
    """Delete the unfinished folders of writers that were killed."""
    for left in folder.parent.glob(f"{glob.escape(folder.name)}.????????{PARTIAL}"):
        if left.resolve() in _own:  # of another thread: a record lock does not exclude its own process
            continue
        with contextlib.suppress(OSError), open(left / _WRITER, "r+b") as file:  # else it lives, or was never locked
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (left / _WRITER).stat()  # gone: its writer is done meanwhile, and about to put the folder in place
            shutil.rmtree(left, ignore_errors=True)


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise InvalidValue(
            f"{folder} is there already, and is not an empty folder: nothing was written. Name another, or delete it first."
        )


def write_manifest(folder: Path, told: dict[str, Any]) -> None:
    """Write what the folder holds. `told`: JSON data beside the format."""
    write_whole(folder / MANIFEST, [json.dumps({"format": FORMAT} | told, indent=1).encode()])
