"""Make the scores of a new store from a table: one that a store exported, or one that something else wrote."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adaptive_sampler.checks import LAST_EPOCH, whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.body import Body
from adaptive_sampler.memory.collecting import CollectedColumn, CollectedKeys
from adaptive_sampler.memory.columns import all_columns
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Table
from adaptive_sampler.scoring.base import BOOKKEEPING, State
from adaptive_sampler.tables.asked import Scores, TableScore, asked, planned
from adaptive_sampler.tables.names import KEY, ROW, own_columns, told
from adaptive_sampler.tables.once import NamedOnce
from adaptive_sampler.tables.own import Columns, own_names, untyped


def filled(
    source: Any, scores: Scores, key: str | None, epoch: int, fingerprint: str | None, columns: Columns = None
) -> Body:
    """What a store holds that is made from a table. Arguments and errors are those of `ScoreStore.from_table`."""
    from adaptive_sampler.tables.arrow import columns as arrow  # needs PyArrow, which only the extra `tables` installs
    from adaptive_sampler.tables.arrow.ahead import read_ahead
    from adaptive_sampler.tables.arrow.sources import pieces

    epoch = whole_number("epoch", epoch, 0, most=LAST_EPOCH)
    found = pieces(source)
    names, each = found[0].schema.names, [told(piece.name, piece.schema.metadata) for piece in found]
    about = each[0] if all(one == each[0] for one in each) else None
    read = [planned(names, column, score, about) for column, score in asked(scores, about).items()]
    own = own_names(columns, about, [one.score.name for one in read])
    key = KEY if key is None and KEY in names else key
    kinds = _kinds(read, [*own], key, ROW in names)
    filling = _Filling(found, kinds, arrow.count(found, kinds), read, own, key, epoch)
    for chunk in read_ahead(found, kinds):
        filling.add(chunk)
    body = filling.body(fingerprint)
    if about is None:
        return body
    return body._replace(fingerprint=fingerprint or about["fingerprint"], runs=about["runs"], epoch=about["epoch"])


def _kinds(read: Sequence[TableScore], own: Sequence[str], key: str | None, by_row: bool) -> dict[str, Any]:
    """The columns that are read, each with its kind."""
    from adaptive_sampler.tables.arrow import columns as arrow

    kinds = {ROW: arrow.ROW} if by_row else {}
    kinds |= {} if key is None else {key: arrow.KEYS}
    for one in read:
        kinds[one.column] = arrow.SCORE if own_columns(one.score.fold) else arrow.VALUE
        dtypes = all_columns(one.score.fold)
        kinds |= {column: arrow.exactly(dtypes[name].dtype) for name, column in one.state.items()}
    kinds |= dict.fromkeys(own, arrow.OWN)
    if len(kinds) < sum(1 + len(one.state) for one in read) + len(own) + by_row + (key is not None):
        raise InvalidValue(f"columns {', '.join(kinds)}: one of them is asked for twice, as two things.")
    return kinds


class _Filling:
    """A store that is filled, some lines of a table at a time. `n`: how many lines the table has."""

    def __init__(
        self,
        found: Any,
        kinds: Mapping[str, Any],
        n: int,
        read: Sequence[TableScore],
        own: Mapping[str, str],
        key: str | None,
        epoch: int,
    ) -> None:
        from adaptive_sampler.tables.arrow.columns import Places

        self._found, self._n, self._read, self._epoch, self._key = found, n, read, epoch, key
        self._called = ", ".join(piece.name for piece in found)
        self._table, self._places = Table([one.score for one in read], n), Places()
        self._own = {name: (column, CollectedColumn(n)) for column, name in own.items()}
        self._keys = None if key is None else CollectedKeys(n)
        self._once = NamedOnce(n, found, {ROW: kinds[ROW]}, np.asarray) if ROW in kinds else None
        self._line: np.ndarray | None = None  # of each row, once rows come in another order than lines

    def add(self, chunk: Any) -> None:
        """Put the next lines into the store. Raises `InvalidValue` for what cannot be right."""
        first = self._places.lines
        self._places.add(chunk)
        if self._places.lines > self._n:
            raise self._changed()
        rows = self._rows(chunk, first)
        if self._keys is not None:
            self._keys.add(chunk.columns[self._key])
        ledgers = {one.score.name: _ledger(one, chunk.columns, self._epoch) for one in self._read}
        _separate(self._table, ledgers)
        for one in self._read:
            _fill(self._table, one, chunk, ledgers[one.score.name], rows)
        for column, kept in self._own.values():
            kept.put(rows, chunk.columns[column])

    def body(self, fingerprint: str | None) -> Body:
        """What the store holds, once all lines are in it."""
        if not self._places.lines:
            raise InvalidValue(f"{self._called}: the table has no line. A store has one row at least.")
        if self._places.lines < self._n:
            raise self._changed()
        for book in self._table.books:
            book.count_anew()
        typed = all(piece.typed for piece in self._found)
        kept = {name: column.whole() if typed else untyped(column.whole()) for name, (_, column) in self._own.items()}
        return Body(self._table, self._key_map(), fingerprint, epoch=self._epoch, columns=kept)

    def _changed(self) -> InvalidValue:
        return InvalidValue(
            f"{self._called}: another number of lines than the {self._n} that were counted before. Was it changed while it was "
            "read? Read it again."
        )

    def _rows(self, chunk: Any, first: int) -> np.ndarray | slice:
        """The row of each line: as the table has it, or the lines in their order, of which `first` is the first here."""
        stop = first + chunk.length
        if self._once is None:
            return slice(first, stop)
        given, lines = chunk.columns[ROW], np.arange(first, stop)
        bad = self._once.first_bad(given)
        if bad >= 0:
            raise self._refusal(chunk.at(bad), int(given[bad]))
        in_order = np.array_equal(given, lines)
        if self._keys is not None and (self._line is not None or not in_order):
            self._line = np.arange(self._n) if self._line is None else self._line
            self._line[given] = lines
        return slice(first, stop) if in_order else given

    def _refusal(self, place: str, row: int) -> InvalidValue:
        remedy = "Leave the column out, and the lines are numbered from 0 on; or make a store of all rows, and use fold_table."
        if 0 <= row < self._n:
            assert self._once is not None
            return self._once.twice(place, row, f"row {row}", remedy)
        return InvalidValue(
            f"{place}: row {row} is outside 0 … {self._n - 1}: the table has {self._n} lines, and a store has a line for each row. "
            f"{remedy}"
        )

    def _key_map(self) -> KeyMap | None:
        """The keys of all rows. Raises `InvalidValue` for one that comes twice."""
        if self._keys is None:
            return None
        keys = self._keys.whole()
        if twice := keys.twice():
            first, again = twice
            raise InvalidValue(
                f"{self._places.at(again)}: key {keys.key(first)!r} comes twice, at first in {self._places.at(first)}. A key names "
                "one row: drop one."
            )
        return keys if self._line is None else keys.at(self._line)


# -- scores -------------------------------------------------------------------------------------------------------------


def _ledger(one: TableScore, columns: Mapping[str, np.ndarray], epoch: int) -> State:
    """Count and last_seen of each line: as the table has them, or once, in `epoch`, where there is a value."""
    if one.state:
        return {name: columns[one.state[name]] for name in BOOKKEEPING}
    seen = ~np.isnan(columns[one.column])
    return {"count": seen.astype(np.uint32), "last_seen": np.where(seen, np.int32(epoch), np.int32(-1))}


def _separate(table: Table, ledgers: Mapping[str, State]) -> None:
    """Have scores share a book no longer that were observed more or less often, or in other epochs, in these lines."""
    for book in table.books:
        names = [score.name for score in book.scores]
        while len(names) > 1:
            first = ledgers[names[0]]
            others = [n for n in names if not all(np.array_equal(first[name], ledgers[n][name]) for name in first)]
            if others:
                table.apart(others)
            names = others


def _fill(table: Table, one: TableScore, chunk: Any, ledger: State, rows: np.ndarray | slice) -> None:
    """Write some lines of one score into its columns, and check that the table's columns go together."""
    values = chunk.columns[one.column]
    own = {name: chunk.columns[one.state[name]] for name in own_columns(one.score.fold)} or {"value": values}
    if one.state:  # else count and last_seen are made of the values
        for line, words in _contradictions(one, own | ledger, values):
            raise InvalidValue(f"{chunk.at(line)}: {words}. Was the table changed? Export it again.")
    book = table[one.score.name].book
    for name, column in own.items():
        book.column((one.score.name, name))[rows] = column
    for name, column in ledger.items():
        book.column(("", name))[rows] = column


def _contradictions(one: TableScore, state: dict[str, np.ndarray], values: np.ndarray) -> Iterator[tuple[int, str]]:
    """The first line whose columns do not fit together, for each way in which they may not."""
    column, count, last_seen = one.column, state["count"], state["last_seen"]
    for line in np.flatnonzero((count > 0) != (last_seen >= 0))[:1]:
        yield line, f"{column} was observed {count[line]} times, and last in epoch {last_seen[line]}"
    score = one.score.fold.read(state)
    for line in np.flatnonzero((score != values) & ~(np.isnan(score) & np.isnan(values)))[:1]:
        yield line, f"{column} is {values[line]}, but its state says {score[line]}"
    if not own_columns(one.score.fold):
        for line in np.flatnonzero((count > 0) == np.isnan(values))[:1]:
            yield line, f"{column} is {values[line]}, but it was observed {count[line]} times"
