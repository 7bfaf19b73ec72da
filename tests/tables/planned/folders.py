"""Folders with plans, as `TablePlan.write` makes them, for the tests of this folder."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet


class Line(NamedTuple):
    """One line of a plan."""

    key: Any
    repeats: int = 1
    weight: float = 1.0


def table(lines: Sequence[Line], others: Sequence[Sequence[Line]] = ()) -> Any:
    """The lines as `TablePlan.rows` returns them. `others`: all partitions, for the type of keys if there are no lines."""
    first = next((some[0].key for some in (lines, *others) if some), "")
    kind = pa.int64() if isinstance(first, int) else pa.large_string()
    columns = zip(*lines, strict=True) if lines else ([], [], [])
    kinds = (kind, pa.uint32(), pa.float32())
    arrays = [pa.array(column, one) for column, one in zip(columns, kinds, strict=True)]
    return pa.table(dict(zip(("key", "repeats", "weight"), arrays, strict=True)))


def written(folder: Path, *partitions: Sequence[Line], plan_id: str = "0123456789abcdef") -> Path:
    """A folder with these lines, a file for each partition."""
    folder.mkdir()
    told = []
    for number, lines in enumerate(partitions):
        name = f"{number:08}.parquet"
        parquet.write_table(table(lines, partitions), folder / name)
        counts = {"rows": len(lines), "samples": sum(line.repeats for line in lines)}
        told.append({"name": f"source-{number}", "file": name} | counts)
    about = {"format": 1, "id": plan_id, "policy": {"kind": "Prune"}, "seed": 7, "epoch": 2, "key": "uid", "lines": 9}
    about |= {name: sum(one[name] for one in told) for name in ("rows", "samples")} | {"partitions": told}
    (folder / "manifest.json").write_text(json.dumps(about))
    return folder


class InMemory:
    """A plan of a table that is not written: what `plan_table` returns has these, too."""

    def __init__(self, *partitions: Sequence[Line], plan_id: str = "0123456789abcdef") -> None:
        self.id, self._tables = plan_id, [table(lines, partitions) for lines in partitions]
        self.partitions = [f"source-{number}" for number in range(len(partitions))]
        self.num_samples = sum(line.repeats for lines in partitions for line in lines)

    def tables(self) -> Iterator[Any]:
        return iter(self._tables)
