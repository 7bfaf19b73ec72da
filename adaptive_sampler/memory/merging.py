"""Merge the scores of several stores over the same samples, as if one store had observed everything."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.body import Body
from adaptive_sampler.memory.book import Book
from adaptive_sampler.memory.table import Table
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.scoring.base import BOOKKEEPING, CannotMerge, Mergeable, ScoreLike, State, describe

MOST_COUNT = np.iinfo(BOOKKEEPING["count"].dtype).max
_SAME_SAMPLES = "Stores are merged over the same samples: give them the same keys, or the same rows and fingerprint."


class _Runs(NamedTuple):
    """How the stores' runs relate.

    `one`: all are in the same run, so nothing of it is settled. `unclear`: what a fold relies on -> why two stores that
    observed the same row cannot be merged for it; nothing if they can.
    """

    one: bool
    names: list[str]
    unclear: Mapping[str, str]


def merge(sources: Sequence[Body]) -> Body:
    """All that the stores observed, in one table; a row is told by its key, or by its number if the stores have no keys.

    The rows are those of the first store, whose fingerprint is kept. Raises `InvalidValue` for a store that comes twice or
    has other scores, keys, rows or, without keys, another fingerprint than the first, for a score whose fold cannot be
    merged, and for a row that its fold cannot merge, or that has another value in a column of the user's own.
    """
    if not sources:
        raise InvalidValue("stores=[]: there is nothing to merge. Pass the open stores.")
    first = sources[0]
    for number, other in enumerate(sources[1:], 1):
        _check_another(sources[:number], other)
        _check_same_scores(first, other)
    for score in first.table.scores:
        if not isinstance(score.fold, Mergeable):
            raise InvalidValue(
                f"{score.name}: fold {score.fold!r} has no `merge` and `relies_on`, so its scores cannot be merged. Give it the "
                "two (adaptive_sampler.scoring.Mergeable says what they do), or merge stores without this score."
            )
    places = [_places(first, other) for other in sources]
    runs = _runs(sources)
    table = Table(first.table.scores, first.table.n, books=_books(sources, first.table.scores))
    for number, source in enumerate(sources):
        for book in table.books:
            _Adding(table, book, source, f"store {number} ({source.where})", places[number], runs).run()
    for book in table.books:
        book.count_anew()
    table.runs = _kept_apart(sources, places, runs.names)
    epoch = max(source.epoch for source in sources)
    return Body(table, first.keys, first.fingerprint, runs.names, epoch, columns=_columns(sources, places))


def _check_another(before: Sequence[Body], other: Body) -> None:
    if twin := next((source for source in before if source.uuid == other.uuid), None):
        raise InvalidValue(
            f"{twin.where} and {other.where} are the same store or copies of one: what they have in common would count twice. "
            "Make a new store for each machine, and merge those."
        )


def _check_same_scores(first: Body, other: Body) -> None:
    mine, theirs = ({s.name: describe(s) for s in source.table.scores} for source in (first, other))
    different = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
    if different:
        name = different[0]
        raise InvalidValue(
            f"{name}: {first.where} has {mine.get(name, 'no such score')}, {other.where} has {theirs.get(name, 'no such score')}. "
            "Stores that are merged have the same scores, made in the same way; store.add(...) adds one that is missing."
        )


def _places(first: Body, other: Body) -> np.ndarray | None:
    """The row in `first` of each row of `other`, (n,) int64; None if they are the same."""
    if first.table.n != other.table.n:
        raise InvalidValue(f"{first.where} has {first.table.n} rows, {other.where} {other.table.n}. {_SAME_SAMPLES}")
    if (first.keys is None) != (other.keys is None):
        raise InvalidValue(f"one of {first.where} and {other.where} has keys, the other has none. {_SAME_SAMPLES}")
    if first.keys is None or other.keys is None:
        if first.fingerprint != other.fingerprint:
            raise InvalidValue(
                f"{first.where} was made for the dataset {first.fingerprint!r}, {other.where} for {other.fingerprint!r}, and "
                f"neither has keys. {_SAME_SAMPLES}"
            )
        return None
    if first.keys is other.keys or first.keys.first_difference(other.keys) is None:
        return None
    places = first.keys.find(other.keys)
    unknown = np.flatnonzero(places < 0)
    if len(unknown):
        key = other.keys.key(int(unknown[0]))
        raise InvalidValue(f"key {key!r} of {other.where} is not in {first.where}. {_SAME_SAMPLES}")
    return places


def _runs(sources: Sequence[Body]) -> _Runs:
    current = {source.runs[-1] for source in sources}
    one = len(sources) == 1 or (len(current) == 1 and current != {""})
    often = Counter(name for source in sources for name in set(source.runs) - {""})
    shared = [name for name, times in often.items() if times > 1 and not (one and name in current)]
    unclear = {}
    if len(sources) > 1 and shared:
        unclear["runs"] = (
            f"several stores have the run {shared[0]!r}, beside others, and what it presented in one store before the other is "
            "not known. Merge the stores of one run while it is the current run of all, or name separate runs separately."
        )
    if begun := [name for source in sources for name in source.runs[1:]]:
        unclear["epochs"] = (
            f"epochs began anew in the run {begun[0]!r}, so they do not tell what came last. A score with fold=Mean() or Max() "
            "can be merged."
        )
    names = list(dict.fromkeys(name for source in sources for name in source.runs))
    kept = any(getattr(score.fold, "relies_on", "") == "runs" for score in sources[0].table.scores)
    kept = kept or any(source.table.runs for source in sources)
    if one:
        names = [name for name in names if name not in current] + list(current)
    elif kept:  # the runs are over: what comes next is a run of its own
        names.append(
            next(name for i in range(len(names) + 1) if (name := f"merged {i}".removesuffix(" 0")) not in names)
        )
    return _Runs(one, names, unclear)


def _kept_apart(sources: Sequence[Body], places: Sequence[np.ndarray | None], names: list[str]) -> dict[int, Table]:
    """The runs of all stores, if they keep them apart: what several observed in a run of one name is merged.

    `names`: those of the merged store. Raises `InvalidValue` if only some stores keep them, for runs of several stores that have
    no name, and as `merge` does.
    """
    keeping = [bool(source.table.runs) for source in sources]
    if len(set(keeping)) > 1:
        kept, other = (sources[keeping.index(whether)].where for whether in (True, False))
        raise InvalidValue(
            f"{kept} keeps its runs apart, {other} does not, and what it observed cannot be told apart later. Merge stores that "
            "were made alike, with runs='kept' or without."
        )
    found: dict[int, list[tuple[Body, np.ndarray | None]]] = {}
    for source, place in zip(sources, places, strict=True):
        for run, observed in source.table.runs.items():
            if any(book.observations for book in observed.books):
                found.setdefault(names.index(source.runs[run]), []).append((source._replace(table=observed), place))
    first = sources[0].table
    merged = {number: _one_run(names[number], first.scores, found[number]) for number in sorted(found)}
    if any(keeping) and len(names) - 1 not in merged:
        merged[len(names) - 1] = Table(first.scores, first.n)
    return merged


def _one_run(name: str, scores: Sequence[ScoreLike], parts: Sequence[tuple[Body, np.ndarray | None]]) -> Table:
    """What several stores observed in the same training run, of those `scores` that one of them had by then."""
    first, *others = (source for source, _ in parts)
    if others and not name:
        raise InvalidValue(
            f"{first.where} and {others[0].where} keep apart a run without a name: whether it is the same run is not known. Name "
            "runs before they train, by store.begin_run(name)."
        )
    had = [score for score in scores if any(score.name in source.table.columns for source, _ in parts)]
    table = Table(had, first.table.n, books=_books([source for source, _ in parts], had))
    for source, place in parts:
        for book in table.books:
            if book.scores[0].name in source.table.columns:  # then it has them all
                _Adding(table, book, source, source.where, place, _Runs(True, [], {})).run()
    for book in table.books:
        book.count_anew()
    return table


def _books(sources: Sequence[Body], scores: Sequence[ScoreLike]) -> dict[str, int]:
    """Score -> number of its book in the merged table: scores that share a book, or lack one, in every store share one there."""
    together = [{name: id(columns.book) for name, columns in source.table.columns.items()} for source in sources]
    numbers: dict[tuple[int, ...], int] = {}
    return {
        score.name: numbers.setdefault(tuple(books.get(score.name, 0) for books in together), len(numbers))
        for score in scores
    }


def _columns(sources: Sequence[Body], places: Sequence[np.ndarray | None]) -> dict[str, UserColumn]:
    """The columns of the user's own of all stores. Raises `InvalidValue` where two stores have different values."""
    found: dict[str, tuple[UserColumn, Body]] = {}
    for source, place in zip(sources, places, strict=True):
        for name, column in source.columns.items():
            theirs = column if place is None else column.at(np.argsort(place))
            mine, owner = found.setdefault(name, (theirs, source))
            row = mine.first_difference(theirs)
            if row is not None:
                called = f"row {row}" if sources[0].keys is None else f"key {sources[0].keys.key(row)!r} (row {row})"
                raise InvalidValue(
                    f"column {name!r}: {called} is {mine.value(row)!r} in {owner.where}, {theirs.value(row)!r} in {source.where}. "
                    f"Set it alike in both, or del store.columns[{name!r}] in one."
                )
    return {name: column for name, (column, _) in found.items()}


class _Adding:
    """One store's part of one book is added to the merged table, chunk by chunk."""

    def __init__(
        self, table: Table, book: Book, source: Body, called: str, places: np.ndarray | None, runs: _Runs
    ) -> None:
        self.table, self.book, self.source, self.called = table, book, source, called
        self.places, self.runs = places, runs
        self.ledger = {name: book.column(("", name)) for name in BOOKKEEPING}

    def run(self) -> None:
        for start in range(0, self.table.n, self.table.chunk):
            stop = min(start + self.table.chunk, self.table.n)
            rows = np.arange(start, stop) if self.places is None else self.places[start:stop]
            parts = {s.name: self.source.table[s.name].part(start, stop) for s in self.book.scores}
            for score in self.book.scores:
                self._add(score, rows, parts[score.name])
            self._count(rows, parts[self.book.scores[0].name])

    def _add(self, score: ScoreLike, rows: np.ndarray, part: State) -> None:
        """Add one score's part, of `rows` of the merged table."""
        seen = np.flatnonzero(part["count"])
        known = self.ledger["count"][rows[seen]] > 0
        mine = self.book.state(score)
        for some, both in ((seen[~known], False), (seen[known], True)):
            theirs = {name: column[some] for name, column in part.items()}  # copies: the store stays as it is
            if not self.runs.one:
                score.fold.begin_run({name: theirs[name] for name in mine})
            state = theirs
            if both and len(some):
                state = {name: column[rows[some]] for name, column in (mine | self.ledger).items()}
                self._merge(score, rows[some], state, theirs)
            for name, column in mine.items():
                column[rows[some]] = state[name]

    def _merge(self, score: ScoreLike, rows: np.ndarray, state: State, theirs: State) -> None:
        """Let the fold merge rows that both observed. Raises `InvalidValue` if that is not possible."""
        assert isinstance(score.fold, Mergeable)
        position, why = 0, self.runs.unclear.get(score.fold.relies_on, "")
        if not why:
            try:
                with np.errstate(over="ignore"):  # sums of infinities, as of samples that were never learned
                    score.fold.merge(state, theirs)
                return
            except CannotMerge as cannot:
                position, why = cannot.position, cannot.why
        raise InvalidValue(
            f"{score.name}: row {rows[position]} was observed in {self.called} and in one before it, {why}"
        )

    def _count(self, rows: np.ndarray, part: State) -> None:
        """Add up the counts, after all scores of the book: their folds are told how often each side had observed a row."""
        count, last_seen = self.ledger["count"], self.ledger["last_seen"]
        total = count[rows].astype(np.uint64) + part["count"]
        if (total > MOST_COUNT).any():
            raise InvalidValue(
                f"{self.called}: a row was observed more than {MOST_COUNT} times, which no store can count."
            )
        count[rows] = total
        last_seen[rows] = np.maximum(last_seen[rows], part["last_seen"])
