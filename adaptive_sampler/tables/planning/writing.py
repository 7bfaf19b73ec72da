"""The folder that `TablePlan.write` makes: a Parquet file for each partition, and a manifest that says what they are."""

import contextlib
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

    Raises `InvalidValue` if `folder` is there and is not an empty folder, and OSError where nothing can be written.
    """
    _check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    unfinished.mkdir()
    try:
        yield unfinished
        for half in unfinished.glob(f"*{PARTIAL}"):  # left by a worker that was killed, whose work was done again
            half.unlink()
        sync(unfinished)
        _check_free(folder)
        os.replace(unfinished, folder)  # over an empty folder, if there is one
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync(folder.parent)


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise InvalidValue(
            f"{folder} is there already, and is not an empty folder: nothing was written. Name another, or delete it first."
        )


def write_manifest(folder: Path, told: dict[str, Any]) -> None:
    """Write what the folder holds. `told`: JSON data beside the format."""
    write_whole(folder / MANIFEST, [json.dumps({"format": FORMAT} | told, indent=1).encode()])
