"""What is written of a store, some rows at a time, so that memory stays bounded however many rows there are."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from adaptive_sampler.memory.body import Body
from adaptive_sampler.memory.columns import all_columns
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Table
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.plan import Plan
from adaptive_sampler.scoring.base import BOOKKEEPING
from adaptive_sampler.tables.names import FIRST, KEY, ROW, beside, column_of, column_of_own, own_columns

AT_ONCE = 1 << 16  # rows of the store that are looked at at a time


class FileColumn(NamedTuple):
    """One column of a file: its name, its NumPy dtype, and whether a NaN in it means that the row was never observed."""

    name: str
    dtype: str
    score: bool = False


class Texts(NamedTuple):
    """The texts of some lines, keys or those of a column: `picks`, (lines,) integers, are their positions in `of`."""

    of: KeyMap
    picks: np.ndarray


Block = dict[str, np.ndarray | Texts]  # column -> (lines,) values


def columns_of(body: Body, state: bool) -> list[FileColumn]:
    """The columns of a file in their order; with `state`, the scores' state comes last."""
    dtypes = ("int64", "str", "int64", "float32")
    first = [FileColumn(*pair) for pair in zip(FIRST, dtypes, strict=True) if body.keys is not None or pair[0] != KEY]
    scores = [FileColumn(column_of(name), "float32", score=True) for name in body.table.columns]
    scores += [FileColumn(column_of_own(name), "str" if c.is_text else c.kind) for name, c in body.columns.items()]
    if not state:
        return first + scores
    last = [
        FileColumn(beside(score.name, name), all_columns(score.fold)[name].dtype)
        for score in body.table.scores
        for name in (*BOOKKEEPING, *own_columns(score.fold))
    ]
    return first + scores + last


def blocks(body: Body, plan: Plan | None, columns: list[FileColumn]) -> Iterator[Block]:
    """The lines of a file, at most `AT_ONCE` at a time. A chunk of the store is read once."""
    table, wanted = body.table, {column.name for column in columns}
    for low in range(0, table.n, table.chunk):
        high = min(low + table.chunk, table.n)
        scores = _scores(table, low, high, wanted)
        for start in range(low, high, AT_ONCE):
            stop = min(start + AT_ONCE, high)
            rows, repeats, weights = _visits(plan, start, stop)
            if len(rows):
                block: Block = {ROW: rows, "repeats": repeats, "loss_weight": weights}
                if body.keys is not None:
                    block[KEY] = Texts(body.keys.part(start, stop), rows - start)
                block |= {name: values[rows - low] for name, values in scores.items()}
                own = {column_of_own(name): column for name, column in body.columns.items()}
                block |= {name: _own(column, rows) for name, column in own.items() if name in wanted}
                yield {column.name: block[column.name] for column in columns}


def _visits(plan: Plan | None, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `plan` visits among these rows: the rows, how often, and with which loss weights; None: all of them, once."""
    if plan is not None:
        return plan.part(start, stop)
    return np.arange(start, stop), np.ones(stop - start, np.int64), np.ones(stop - start, np.float32)


def _own(column: UserColumn, rows: np.ndarray) -> np.ndarray | Texts:
    """Some rows of a column of the user's own."""
    values = column.values[rows]
    return Texts(column.categories, values) if column.is_text else values


def _scores(table: Table, start: int, stop: int, wanted: set[str]) -> dict[str, np.ndarray]:
    """All scores of some rows, and the columns that they are kept in, as far as they are wanted."""
    found: dict[str, np.ndarray] = {}
    for score in table.scores:
        part = table[score.name].part(start, stop)
        found[column_of(score.name)] = score.fold.read(part)
        found |= {beside(score.name, name): column for name, column in part.items()}
    return {name: found[name] for name in wanted & set(found)}
