"""Write the rows that a plan keeps, with their keys and scores, to a file that other tools read."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from adaptive_sampler.disk import whole_file
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.body import Body
from adaptive_sampler.plan import Plan
from adaptive_sampler.tables.blocks import Block, FileColumn, Texts, blocks, columns_of
from adaptive_sampler.tables.listing import LISTS, Listed, check_list, write_list
from adaptive_sampler.tables.names import KEY, ROW

TYPED = (".parquet", ".feather", ".arrow")


class Exported(Protocol):
    """A store that is exported."""

    @property
    def session(self) -> Any: ...


def export(
    store: Exported,
    path: str | os.PathLike[str],
    *,
    plan: Plan | None = None,
    state: bool | None = None,
    uids: bool = False,
) -> None:
    """Write the rows of `plan` (None: all rows), ascending, which is the order of the dataset, to a file at `path`.

    ".parquet", ".feather", ".arrow" and ".csv": one line per row, with the columns row, key (if the store has keys),
    repeats, loss_weight, one for each score, which is null (in CSV: empty) where the row was never observed, and one for
    each column of your own. `state`: with what a store needs to go on from there: for a score `loss` its `loss/count` and
    `loss/last_seen`, and the fold's own columns if its score does not tell them; None: in files with types, which CSV has
    not. Parquet, Feather and Arrow need PyArrow, the extra `tables`.

    ".txt" and ".npy" are lists of visits, in which a row that is visited k times stands k times: of keys, one a line; of rows,
    (visits,) int64. `uids`: ".npy" has what DataComp's resharder reads, keys of 32 hexadecimal digits as sorted numbers,
    (visits,) of dtype "u8,u8"; they are sorted in memory, about 40 bytes a visit.

    The file appears whole or not at all. A score that is named row, key, repeats or loss_weight is in the column
    `score:row` and so on, a column of your own in `column:row`. Raises `InvalidValue` for a path with another ending and for
    keys that the form cannot hold, `StoreError` for keys of a store that has none, and OSError where it cannot be written.
    """
    path = Path(path)
    if path.suffix not in (*TYPED, ".csv", *LISTS):
        raise InvalidValue(
            f"{path.name}: export writes .parquet, .feather, .arrow, .csv, .txt or .npy. Name the file so."
        )
    check_list(path, uids)
    body: Body = store.session.drained.body
    if path.suffix in LISTS:
        if state:
            raise InvalidValue(
                f"{path.name} is a list of visits, without state. Leave state=True out, or name the file .parquet."
            )
        keyed = path.suffix == ".txt" or uids
        if keyed:
            store.session.key_map()  # raises if there are none
        total = body.table.n if plan is None else plan.num_samples
        write_list(path, _visits(body, plan, keyed), total, uids)
        return
    columns = columns_of(body, path.suffix in TYPED if state is None else state)
    if path.suffix == ".csv":
        with whole_file(path) as file:
            _write_csv(file, columns, blocks(body, plan, columns))
        return
    from adaptive_sampler.tables.arrow import files  # it needs PyArrow, which only the extra `tables` installs

    files.write(path, columns, blocks(body, plan, columns), body, plan)


def _visits(body: Body, plan: Plan | None, keyed: bool) -> Iterator[Listed]:
    """The keys (`keyed`) or rows of the plan, and how often each is visited."""
    names, times = FileColumn(KEY if keyed else ROW, "str" if keyed else "int64"), FileColumn("repeats", "int64")
    for block in blocks(body, plan, [names, times]):
        repeats = block["repeats"]
        assert isinstance(repeats, np.ndarray)
        yield Listed(_texts(names, block[KEY]) if keyed else block[ROW], repeats)


def _write_csv(file: BinaryIO, columns: list[FileColumn], lines: Iterator[Block]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow([column.name for column in columns])
    for block in lines:
        writer.writerows(zip(*(_texts(column, block[column.name]) for column in columns), strict=True))
    text.flush()
    text.detach()  # or `text` would close the file, which `whole_file` has yet to sync


def _texts(column: FileColumn, values: np.ndarray | Texts) -> list[Any]:
    """The values of a column as `csv` takes them. The shortest decimal of a float32 as float64 gives it back exactly."""
    if isinstance(values, Texts):
        texts = values.of.texts()
        return [texts[pick] for pick in values.picks]
    if values.dtype.kind != "f":
        return list(values.tolist())
    if column.score:
        return [repr(value) if value == value else "" for value in values.tolist()]
    return [repr(value) for value in values.tolist()]
