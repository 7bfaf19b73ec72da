"""A folder with a plan of a table, as `TablePlan.write` makes it: one Parquet file a partition, and a manifest."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from adaptive_sampler.checks import is_whole, whole_number
from adaptive_sampler.errors import MALFORMED, InvalidValue, StoreDamaged
from adaptive_sampler.plan import PLAN_ID

MANIFEST = "manifest.json"
FORMAT = 1
COLUMNS = ("key", "repeats", "weight")
Lines = TypeVar("Lines")
_AGAIN = "Write the plan again: plan_table(...).write(folder)."


class PlanFolder:
    """The plan in the folder at `path`, which `plan_table(...).write(path)` made. Nothing but the manifest is held in memory.

    `id`, `policy` (as data), `seed` and `epoch` say which plan it is, and `key` by which column its table was planned.
    `num_lines`: lines of the table; `num_rows`: lines that are visited; `num_samples`: visits; `partitions`: what they are
    called. `manifest`: all that the manifest says, such as what the table's files were when it was planned.

    Raises `InvalidValue` for a place without a plan, and `StoreDamaged` for a plan that is not as it was written: with a
    manifest that is none, or with files that are missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        manifest = self.path / MANIFEST
        if not manifest.is_file():
            wrong = "the folder has no manifest.json" if self.path.is_dir() else "there is no such folder"
            raise InvalidValue(f"{self.path} is no plan: {wrong}. Pass the folder that plan.write(folder) made.")
        try:
            about = json.loads(manifest.read_bytes())
            if about["format"] > FORMAT:
                raise InvalidValue(
                    f"{self.path} has format {about['format']}; this adaptive-sampler reads up to {FORMAT}. Upgrade: pip install "
                    "-U adaptive-sampler."
                )
            self._read(about)
        except MALFORMED as error:
            if isinstance(error, InvalidValue):
                raise
            raise StoreDamaged(f"{manifest} is not as it was written ({error}). {_AGAIN}") from error
        there = set(os.listdir(self.path))
        missing = [file for file in self._files if file not in there]
        if missing:
            raise StoreDamaged(
                f"{self.path}: {missing[0]} is not there, 1 of {len(missing)} that are missing. {_AGAIN}"
            )

    def _read(self, about: Any) -> None:
        self.id, self.policy, self.key, each = (about[name] for name in ("id", "policy", "key", "partitions"))
        numbers = [about[name] for name in ("seed", "epoch", "lines", "rows", "samples")]
        self.seed, self.epoch, self.num_lines, self.num_rows, self.num_samples = numbers
        self.partitions, self._files = [one["name"] for one in each], [one["file"] for one in each]
        self._counts = [(one["rows"], one["samples"]) for one in each]
        self.manifest = about
        if not PLAN_ID.fullmatch(self.id) or not all(map(is_whole, numbers)):
            raise ValueError("id, seed, epoch, lines, rows, samples")
        if not each or not all(is_whole(rows) and is_whole(samples, rows) for rows, samples in self._counts):
            raise ValueError("partitions")
        if (self.num_rows, self.num_samples) != tuple(map(sum, zip(*self._counts, strict=True))):
            raise ValueError("the sums of rows and samples")
        if any(file != Path(file).name for file in self._files):
            raise ValueError("files")

    def __repr__(self) -> str:
        return f"PlanFolder({str(self.path)!r}: {self.id}, {self.num_rows} rows, {self.num_samples} samples)"

    def batches(self, partition: int) -> Iterator[Any]:
        """The lines of a partition as pyarrow.RecordBatches, some at a time, with the columns key, repeats and weight.

        `partition`: its number. Raises as `rows` does, for wrong counts at the end.
        """
        partition = self._number(partition)
        read = (batch.lines for batch in self.piece(partition).batches(dict.fromkeys(COLUMNS)))
        return self.counted(partition, read, lambda lines: lines.column("repeats").to_numpy())

    def rows(self, partition: int) -> Any:
        """The visited lines of a partition in their order, a pyarrow.Table with the columns key, repeats and weight.

        `partition`: its number. Raises `InvalidValue` if there is none of that number, and `StoreDamaged` for a file that is not
        as it was written.
        """
        import pyarrow as pa

        partition = self._number(partition)
        return pa.Table.from_batches(self.batches(partition), self.piece(partition).schema)

    def tables(self) -> Iterator[Any]:
        """What `rows` returns of each partition, in their order."""
        return map(self.rows, range(len(self._files)))

    def pieces(self) -> Iterator[Any]:
        """The files of all partitions, in order. Raises as `rows` does."""
        return map(self.piece, range(len(self._files)))

    def piece(self, partition: int) -> Any:
        """The file of a partition, to be read in batches. Raises as `rows` does."""
        from adaptive_sampler.tables.arrow.sources import check_columns, pieces

        with self.told_as_damage():
            (piece,) = pieces(self.path / self._files[partition])
            check_columns([piece], COLUMNS)
        return piece

    @contextlib.contextmanager
    def told_as_damage(self) -> Iterator[None]:
        """Raise what says that a file cannot be read, or cannot be right, as `StoreDamaged`; what the system says as it is."""
        import pyarrow as pa

        try:
            yield
        except (*MALFORMED, pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise StoreDamaged(f"{self.path} is not as it was written: {str(error).rstrip('.')}. {_AGAIN}") from error

    def _number(self, partition: int) -> int:
        most = len(self._files) - 1
        return whole_number("partition", partition, 0, most=most, what="the number of a partition")

    def counted(self, partition: int, read: Iterator[Lines], repeats: Callable[[Lines], Any]) -> Iterator[Lines]:
        """What is read of a partition. Raises `StoreDamaged` where that fails, or ends with other counts than were written.

        `repeats`: (lines) -> how often each of them is visited, as a NumPy array.
        """
        lines = samples = 0
        with self.told_as_damage():
            for some in read:
                each = repeats(some)
                lines, samples = lines + len(each), samples + int(each.sum(dtype="int64"))
                yield some
        if (lines, samples) != self._counts[partition]:
            wrote = "{} rows and {} samples".format(*self._counts[partition])
            raise StoreDamaged(
                f"{self.path / self._files[partition]} has {lines} rows and {samples} samples, and was written with {wrote}. "
                f"{_AGAIN}"
            )
