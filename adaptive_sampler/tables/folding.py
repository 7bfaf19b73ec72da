"""Fold values that a table has, which were measured elsewhere, into the scores of a store."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from adaptive_sampler.checks import LAST_EPOCH, whole_number
from adaptive_sampler.errors import InvalidValue, RowError, UnknownName
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Update
from adaptive_sampler.tables.names import ROW


class Folded(Protocol):
    """A store that values are folded into."""

    @property
    def session(self) -> Any: ...


class _Given(NamedTuple):
    """What a table has: the row of each line, (lines,) int64, and the values of each score, (scores, lines) float32."""

    rows: np.ndarray
    values: np.ndarray


def fold_table(
    store: Folded,
    source: Any,
    *,
    scores: Mapping[str, str],
    key: str | None = None,
    row: str = ROW,
    epoch: int | None = None,
) -> None:
    """Fold the values of a table, which were measured elsewhere, into the scores; all or nothing.

    `source`: the path of a .parquet, .feather, .arrow or .csv file, or of a folder with such files; a table of PyArrow,
    pandas 2.2 or newer or Polars (whatever has `__arrow_c_stream__` or `__arrow_c_array__`); or a list of these. `scores`:
    column -> the score into which its values are folded; a null or NaN is no observation. `key`: the column with keys,
    which say whose values a line has; None: the column `row` has row numbers. `epoch`: when they were observed; None for
    `store.epoch`. Needs PyArrow, the extra `tables`, and memory for the rows and values of all lines.

    Raises `UnknownName` for a score or a key that the store has not, `RowError` for a row outside the store, and
    `InvalidValue` for a key or row that comes twice or is null, for a value that is infinite, and for columns that are
    missing, of another type, or not of one type in all files; with the file, the row group and the line. Nothing is
    changed then.
    """
    session = store.session.to_write()
    epoch = session.clock.epoch if epoch is None else whole_number("epoch", epoch, 0, most=LAST_EPOCH)
    names = _checked(session, scores)
    keys = None if key is None else session.key_map()
    given = _read(source, keys, row if key is None else key, [*scores], session.table.n)
    session.fold_parts(_parts(names, given), epoch)


def _checked(session: Any, scores: Mapping[str, str]) -> list[str]:
    """The names of the scores, which the store has. Raises `InvalidValue` unless each is fed by one column."""
    if not isinstance(scores, Mapping) or not scores:
        raise InvalidValue(
            f"scores={scores!r}: a dict of columns and the scores that they feed, such as {{'quality': 'loss'}}."
        )
    names = [*scores.values()]
    for name in names:
        session.table[name]
        if names.count(name) > 1:
            raise InvalidValue(
                f"scores={dict(scores)!r}: more than one column feeds {name!r}. Fold one after the other."
            )
    return names


def _read(source: Any, keys: KeyMap | None, by: str, columns: list[str], n: int) -> _Given:
    """The lines of the table. `by`: the column with their keys, or with their rows if `keys` is None."""
    from adaptive_sampler.tables.arrow import (
        columns as arrow,  # it needs PyArrow, which only the extra `tables` installs
    )
    from adaptive_sampler.tables.arrow.sources import pieces

    places, seen = arrow.Places(), np.zeros(n, np.bool_)
    rows, values = [np.empty(0, np.int64)], [np.empty((len(columns), 0), np.float32)]
    kinds = {by: arrow.ROW if keys is None else arrow.KEYS} | dict.fromkeys(columns, arrow.VALUE)
    if by in columns:
        raise InvalidValue(
            f"column {by!r} cannot tell rows and be a score. Name the column with keys by key=, with rows by row=."
        )
    found = pieces(source)
    for chunk in arrow.read(found, kinds):
        places.add(chunk)
        rows.append(_rows(chunk.columns[by], keys, n, places, places.lines - chunk.length))
        values.append(np.stack([chunk.columns[name] for name in columns]))
        seen[rows[-1]] = True
    if not places.lines:
        raise InvalidValue(f"{', '.join(piece.name for piece in found)}: the table has no line. Pass one that has.")
    given = _Given(np.concatenate(rows), np.concatenate(values, axis=1))
    if np.count_nonzero(seen) != places.lines:
        first, again = _twice(given.rows)
        called = f"row {given.rows[first]}" if keys is None else f"key {keys.key(int(given.rows[first]))!r}"
        raise InvalidValue(
            f"{places.at(again)}: {called} comes twice, at first in {places.at(first)}. A table has one line for a row: fold "
            "repeated measurements one table after the other."
        )
    return given


def _rows(told: Any, keys: KeyMap | None, n: int, places: Any, start: int) -> np.ndarray:
    """The rows of a chunk's lines, the first of which is line `start` of all. `told`: their rows or keys."""
    if keys is not None:
        rows: np.ndarray = keys.find(told)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            raise UnknownName(
                f"{places.at(start + unknown[0])}: key {told.key(int(unknown[0]))!r} is not in the store: it names none of its {n} "
                "rows. Leave such lines out, or add rows by store.grow(n, keys)."
            )
        return rows
    outside = np.flatnonzero((told < 0) | (told >= n))
    if len(outside):
        raise RowError(
            f"{places.at(start + outside[0])}: row {told[outside[0]]} is outside 0 … {n - 1}: the store has {n} rows. Is it the "
            "table of another dataset? store.grow(n) adds rows."
        )
    return np.asarray(told)


def _twice(rows: np.ndarray) -> tuple[int, int]:
    """The first line whose row came before, and where it came first: (first, again)."""
    order = np.argsort(rows, kind="stable")
    again = np.flatnonzero(rows[order][1:] == rows[order][:-1]) + 1
    second = int(order[again].min())
    return int(np.flatnonzero(rows == rows[second])[0]), second


def _parts(names: list[str], given: _Given) -> list[Update]:
    """What is folded: scores with values in the same lines together, since only they share counts."""
    missing, parts, left = np.isnan(given.values), [], [*range(len(names))]
    while left:
        alike = [line for line in left if np.array_equal(missing[line], missing[left[0]])]
        left = [line for line in left if line not in alike]
        there = ~missing[alike[0]]
        values = np.ascontiguousarray(given.values[alike][:, there])
        if values.size:
            parts.append(Update(given.rows[there], tuple(names[line] for line in alike), values))
    return parts
