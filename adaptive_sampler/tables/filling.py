"""Make the scores of a new store from a table: one that a store exported, or one that something else wrote."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.checks import LAST_EPOCH, whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.body import Body
from adaptive_sampler.memory.columns import all_columns
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Table
from adaptive_sampler.scoring.base import BOOKKEEPING, ScoreLike, describe, restore
from adaptive_sampler.tables.names import KEY, ROW, beside, column_of, own_columns, told
from adaptive_sampler.tables.own import Columns, own_column, own_names

Scores = Sequence[ScoreLike] | Mapping[str, ScoreLike] | None


class _Score(NamedTuple):
    """A score that is read: `column` has its values; `state`: column of the store -> column of the table."""

    score: ScoreLike
    column: str
    state: dict[str, str]


def filled(
    source: Any, scores: Scores, key: str | None, epoch: int, fingerprint: str | None, columns: Columns = None
) -> Body:
    """What a store holds that is made from a table. Arguments and errors are those of `ScoreStore.from_table`."""
    from adaptive_sampler.tables.arrow.sources import pieces  # needs PyArrow, which only the extra `tables` installs

    epoch = whole_number("epoch", epoch, 0, most=LAST_EPOCH)
    found = pieces(source)
    names, each = found[0].schema.names, [told(piece.name, piece.schema.metadata) for piece in found]
    about = each[0] if all(one == each[0] for one in each) else None
    read = [_planned(names, column, score, about) for column, score in _asked(scores, about).items()]
    own = own_names(columns, about, [one.score.name for one in read])
    key = KEY if key is None and KEY in names else key
    by_row = ROW in names
    places, parts = _gathered(found, read, [*own], key, ROW if by_row else None)
    rows = _rows(parts.pop(ROW, None), places)
    keys = None if key is None else _keys(parts.pop(key), rows, places)
    table = Table([one.score for one in read], places.lines, books=_books(read, parts, epoch))
    for one in read:
        _fill(table, one, parts, rows, places, epoch)
    typed = all(piece.typed for piece in found)
    kept = {name: own_column(parts[column], rows, typed) for column, name in own.items()}
    for book in table.books:
        book.count_anew()
    if about is None:
        return Body(table, keys, fingerprint, epoch=epoch, columns=kept)
    return Body(table, keys, fingerprint or about["fingerprint"], about["runs"], about["epoch"], columns=kept)


# -- which scores, from which columns -----------------------------------------------------------------------------------


def _asked(scores: Scores, about: Mapping[str, Any] | None) -> dict[str, ScoreLike]:
    """Column -> score. Without `scores`, those that the file says it has."""
    if scores is None:
        if about is None:
            raise InvalidValue(
                "scores=None: the table does not say how its scores were made, or its files say different things. Pass them, "
                "such as scores={'quality': Loss(name='quality')}."
            )
        custom = [column for column, made in about["scores"].items() if made["kind"] == "custom"]
        if custom:
            raise InvalidValue(f"{custom[0]} is a custom score: pass all that you want, from_table(..., scores=[...]).")
        return {column: restore(made) for column, made in about["scores"].items()}
    if not isinstance(scores, Mapping):
        scores = {column_of(score.name): score for score in scores}
    if not scores:
        raise InvalidValue("scores is empty: say which columns are scores, such as {'quality': Loss(name='quality')}.")
    return dict(scores)


def _planned(names: Sequence[str], column: str, score: ScoreLike, about: Mapping[str, Any] | None) -> _Score:
    """Which columns a score is read from. Raises `InvalidValue` if the table does not have what its fold needs."""
    state = {name: beside(column, name) for name in (*BOOKKEEPING, *own_columns(score.fold))}
    there = [name for name in state.values() if name in names]
    if len(there) == len(state):
        _check_made_alike(column, score, about)
        return _Score(score, column, state)
    if there or own_columns(score.fold):
        missing = next(name for name in state.values() if name not in names)
        raise InvalidValue(
            f"{score.name}: there is no column {missing!r}, and the score alone does not tell the fold's state. Write the table "
            "with store.export(..., state=True); or take the values as they are, by a score with fold=Last(), and no column "
            f"{beside(column, 'count')!r}."
        )
    return _Score(score, column, {})


def _check_made_alike(column: str, score: ScoreLike, about: Mapping[str, Any] | None) -> None:
    made = about["scores"].get(column) if about else None
    fold = made and (restore(made).fold if made["kind"] != "custom" else made["fold"])
    if fold and describe(score.fold) != (fold if isinstance(fold, dict) else describe(fold)):
        raise InvalidValue(
            f"{score.name}: the file has it from {fold}, the one passed has {describe(score.fold)}: one's state is nothing to the "
            "other. Pass the same fold; or leave the columns count and last_seen out of the table, and the values are taken as "
            "they are."
        )


# -- the lines ----------------------------------------------------------------------------------------------------------


def _gathered(
    found: Any, read: Sequence[_Score], own: Sequence[str], key: str | None, row: str | None
) -> tuple[Any, dict[str, Any]]:
    """All lines of the table: where they stand, and the columns by name; keys, and columns of the user's own, in parts."""
    from adaptive_sampler.tables.arrow import columns as arrow

    kinds = {} if row is None else {row: arrow.ROW}
    kinds |= {} if key is None else {key: arrow.KEYS}
    for one in read:
        kinds[one.column] = arrow.SCORE if own_columns(one.score.fold) else arrow.VALUE
        dtypes = all_columns(one.score.fold)
        kinds |= {column: arrow.exactly(dtypes[name].dtype) for name, column in one.state.items()}
    kinds |= dict.fromkeys(own, arrow.OWN)
    if len(kinds) < sum(1 + len(one.state) for one in read) + len(own) + (row is not None) + (key is not None):
        raise InvalidValue(f"columns {', '.join(kinds)}: one of them is asked for twice, as two things.")
    places = arrow.Places()
    parts: dict[str, list[Any]] = {name: [] for name in kinds}
    for chunk in arrow.read(found, kinds):
        places.add(chunk)
        for name, values in chunk.columns.items():
            parts[name].append(values)
    if not places.lines:
        raise InvalidValue(
            f"{', '.join(piece.name for piece in found)}: the table has no line. A store has one row at least."
        )
    whole = {name for name in kinds if name != key and name not in own}
    return places, {name: np.concatenate(part) if name in whole else part for name, part in parts.items()}


def _rows(given: np.ndarray | None, places: Any) -> np.ndarray | slice:
    """The row of each line: as `given`, or the lines in their order."""
    if given is None:
        return slice(None)
    n = places.lines
    remedy = (
        "Leave the column out, and the lines are numbered from 0 on; or make a store of all rows, and use fold_table."
    )
    outside = np.flatnonzero((given < 0) | (given >= n))
    if len(outside):
        raise InvalidValue(
            f"{places.at(outside[0])}: row {given[outside[0]]} is outside 0 … {n - 1}: the table has {n} lines, and a store has a "
            f"line for each row. {remedy}"
        )
    first = np.full(n, -1)
    first[given[::-1]] = np.arange(n)[::-1]
    again = np.flatnonzero(first[given] != np.arange(n))
    if len(again):
        line = int(again[0])
        raise InvalidValue(
            f"{places.at(line)}: row {given[line]} comes twice, at first in {places.at(int(first[given[line]]))}. {remedy}"
        )
    return slice(None) if (given == np.arange(n)).all() else given


def _keys(parts: Sequence[KeyMap], rows: np.ndarray | slice, places: Any) -> KeyMap:
    """The keys of all rows. Raises `InvalidValue` for one that comes twice."""
    keys = KeyMap.joined(parts)
    if twice := keys.twice():
        first, again = twice
        raise InvalidValue(
            f"{places.at(again)}: key {keys.key(first)!r} comes twice, at first in {places.at(first)}. A key names one row: drop "
            "one."
        )
    if isinstance(rows, slice):
        return keys
    line = np.empty(len(rows), np.int64)
    line[rows] = np.arange(len(rows))
    return KeyMap.of(keys.key(int(i)) for i in line)


# -- into the store -----------------------------------------------------------------------------------------------------


def _books(read: Sequence[_Score], columns: Mapping[str, np.ndarray], epoch: int) -> dict[str, int]:
    """Score -> number of its book: scores that were observed equally often, and last in the same epochs, share one."""
    books: list[dict[str, np.ndarray]] = []
    numbers = {}
    for one in read:
        ledger = _ledger(one, columns, epoch)
        alike = (i for i, book in enumerate(books) if all(np.array_equal(book[name], ledger[name]) for name in book))
        numbers[one.score.name] = number = next(alike, len(books))
        if number == len(books):
            books.append(ledger)
    return numbers


def _ledger(one: _Score, columns: Mapping[str, np.ndarray], epoch: int) -> dict[str, np.ndarray]:
    """Count and last_seen of each line: as the table has them, or once, in `epoch`, where there is a value."""
    if one.state:
        return {name: columns[one.state[name]] for name in BOOKKEEPING}
    seen = ~np.isnan(columns[one.column])
    return {"count": seen.astype(np.uint32), "last_seen": np.where(seen, epoch, -1).astype(np.int32)}


def _fill(table: Table, one: _Score, columns: Mapping[str, np.ndarray], rows: Any, places: Any, epoch: int) -> None:
    """Write one score into its columns, and check that the table's columns go together."""
    values, ledger = columns[one.column], _ledger(one, columns, epoch)
    own = {name: columns[one.state[name]] for name in own_columns(one.score.fold)} or {"value": values}
    for line, words in _contradictions(one, own | ledger, values):
        raise InvalidValue(f"{places.at(line)}: {words}. Was the table changed? Export it again.")
    book = table[one.score.name].book
    for name, column in own.items():
        book.column((one.score.name, name))[rows] = column
    for name, column in ledger.items():
        book.column(("", name))[rows] = column


def _contradictions(one: _Score, state: dict[str, np.ndarray], values: np.ndarray) -> Iterator[tuple[int, str]]:
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
