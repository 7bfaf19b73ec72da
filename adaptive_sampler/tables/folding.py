"""Fold values that a table has, which were measured elsewhere, into the scores of a store."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from adaptive_sampler.checks import LAST_EPOCH, whole_number
from adaptive_sampler.errors import InvalidValue, RowError, StoreError, UnknownName
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import FoldedInPart, Update
from adaptive_sampler.tables.names import ROW
from adaptive_sampler.tables.once import NamedOnce
from adaptive_sampler.tables.signals import signals_wait
from adaptive_sampler.tables.spool import Spool


class Folded(Protocol):
    """A store that values are folded into."""

    @property
    def session(self) -> Any: ...


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
    `store.epoch`. Needs PyArrow, the extra `tables`. The table is read some lines at a time, and nothing is folded before all are
    checked: lines beyond 64 MiB wait in the folder for temporary files, with 8 bytes each and 4 for each value. A table in memory
    stays there, a stream is read into memory, and a fold of your own, which may raise, has its rows copied.

    Raises `UnknownName` for a score or a key that the store has not, `RowError` for a row outside the store, and
    `InvalidValue` for a key or row that comes twice or is null, for a value that is infinite, and for columns that are
    missing, of another type, or not of one type in all files; with the file, the row group and the line; and OSError where a
    file cannot be read or the temporary folder has no room. Nothing is changed then, and signals wait while values are folded.
    `StoreError` if lines that were kept are lost just then, which closes the store: open it again.
    """
    session = store.session.to_write()
    epoch = session.clock.epoch if epoch is None else whole_number("epoch", epoch, 0, most=LAST_EPOCH)
    names = _checked(session, scores)
    keys = None if key is None else session.key_map()
    with Spool() as spool:
        groups = _read(source, keys, row if key is None else key, [*scores], session.table.n, spool)
        named = [tuple(names[line] for line in group) for group in groups]
        spool.check()
        with signals_wait():
            _fold(session, named, _parts(named, groups, spool), epoch)


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


def _read(source: Any, keys: KeyMap | None, by: str, columns: list[str], n: int, spool: Spool) -> list[list[int]]:
    """Check all lines of the table, and keep them in `spool`; which columns are folded together: see `_Together`.

    `by`: the column with their keys, or with their rows if `keys` is None.
    """
    from adaptive_sampler.tables.arrow import (
        columns as arrow,  # it needs PyArrow, which only the extra `tables` installs
    )
    from adaptive_sampler.tables.arrow.ahead import read_ahead
    from adaptive_sampler.tables.arrow.sources import pieces

    if by in columns:
        raise InvalidValue(
            f"column {by!r} cannot tell rows and be a score. Name the column with keys by key=, with rows by row=."
        )
    found, kind = pieces(source), arrow.ROW if keys is None else arrow.KEYS
    once = NamedOnce(n, found, {by: kind}, np.asarray if keys is None else keys.find)
    together, lines = _Together(len(columns)), 0
    for chunk in read_ahead(found, {by: kind} | dict.fromkeys(columns, arrow.VALUE)):
        rows = _rows(chunk, chunk.columns[by], keys, once, n)
        values = np.stack([chunk.columns[name] for name in columns])
        together.note(values)
        spool.put(rows, values)
        lines += chunk.length
    if not lines:
        raise InvalidValue(f"{', '.join(piece.name for piece in found)}: the table has no line. Pass one that has.")
    return together.groups()


def _rows(chunk: Any, told: Any, keys: KeyMap | None, once: NamedOnce, n: int) -> np.ndarray:
    """The rows of a chunk's lines. `told`: their rows or keys."""
    rows: np.ndarray = told if keys is None else keys.find(told)
    bad = once.first_bad(rows)
    if bad < 0:
        return rows
    row, place = int(rows[bad]), chunk.at(bad)
    if 0 <= row < n:
        called = f"row {row}" if keys is None else f"key {keys.key(row)!r}"
        remedy = "A table has one line for a row: fold repeated measurements one table after the other."
        raise once.twice(place, row, called, remedy)
    if keys is None:
        raise RowError(
            f"{place}: row {row} is outside 0 … {n - 1}: the store has {n} rows. Is it the table of another dataset? "
            "store.grow(n) adds rows."
        )
    raise UnknownName(
        f"{place}: key {told.key(bad)!r} is not in the store: it names none of its {n} rows. Leave such lines out, or add rows by "
        "store.grow(n, keys)."
    )


class _Together:
    """Which columns, by their number, have values in the same lines: only such scores share counts, and so are folded together."""

    def __init__(self, columns: int) -> None:
        self._groups = [[*range(columns)]]
        self._empty = np.ones(columns, np.bool_)

    def note(self, values: np.ndarray) -> None:
        """Note the values, (columns, batch) float32, of some lines."""
        missing = np.isnan(values)
        self._empty &= missing.all(axis=1)
        if len(values) > 1:
            self._groups = [part for group in self._groups for part in _alike(group, missing)]

    def groups(self) -> list[list[int]]:
        """The groups of columns that have a value at all."""
        return [group for group in self._groups if not self._empty[group[0]]]


def _alike(group: list[int], missing: np.ndarray) -> list[list[int]]:
    """A group in parts of columns that lack the same values."""
    parts = []
    while group:
        alike = [line for line in group if np.array_equal(missing[line], missing[group[0]])]
        parts.append(alike)
        group = [line for line in group if line not in alike]
    return parts


def _fold(session: Any, groups: list[tuple[str, ...]], parts: Iterator[Update], epoch: int) -> None:
    """Fold all parts as one update; with a journal, they wait there. A store of which only a part was folded is closed."""
    session.check_writable()
    if session.journal is not None:
        with session.journal.kept_apart():
            session.journal.append_all(parts, epoch)
        return
    try:
        session.table.fold_all(groups, parts, epoch)
    except FoldedInPart as error:
        session.close()
        raise StoreError(
            f"{error.__cause__}. Only a part of the table was folded, so the store was closed, and its "
            "scores in memory are not to be used. Open it again, which gives the last commit, and fold the table again."
        ) from error.__cause__
    session.updates += 1


def _parts(named: list[tuple[str, ...]], groups: list[list[int]], spool: Spool) -> Iterator[Update]:
    """What is folded, some lines at a time."""
    for rows, values in spool.batches():
        for names, group in zip(named, groups, strict=True):
            there = ~np.isnan(values[group[0]])
            if there.all():
                yield Update(rows, names, values if len(group) == len(values) else values[group])
            elif there.any():
                yield Update(rows[there], names, np.ascontiguousarray(values[group][:, there]))
