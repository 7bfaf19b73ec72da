"""The scores in memory: check measured values, fold them into the columns, and read the scores back."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.arrays import as_array, numbers, to_host
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import InvalidValue, NotFinite, RowError, UnknownName
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.memory.book import Book, Load, Program, chunk_rows, rule_of
from adaptive_sampler.memory.columns import Columns
from adaptive_sampler.scoring.base import Fold, ScoreLike
from adaptive_sampler.scoring.reading import Reader

FLOAT32 = np.dtype(np.float32)
NUMPY = {np.ndarray}


class Update(NamedTuple):
    """Values of some scores that were observed together: `rows`, (batch,) int64, and `values`, (scores, batch) float32."""

    rows: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray


class FoldedInPart(Exception):
    """Of several parts some were folded and the next could not be had; its cause says why."""


class Table:
    """The columns of some scores for rows 0 … n − 1.

    For a version on disk, `load(name)` gives a function that reads the chunks of the score `name`, and `books` maps each
    score to a number: scores with equal numbers, which have always been observed together, share a book.
    """

    def __init__(
        self,
        scores: Sequence[ScoreLike],
        n: int,
        load: Callable[[str], Load] | None = None,
        chunk: int | None = None,
        books: Mapping[str, int] | None = None,
    ) -> None:
        self.n = n
        self.chunk = chunk_rows(n) if chunk is None else chunk
        self.columns: dict[str, Columns] = {}
        self._routes: dict[tuple[str, ...], tuple[list[tuple[Book, Program]], bool]] = {}
        shared: dict[int, Book] = {}
        for score in scores:
            self._check_new(score)
            book = shared.setdefault(books[score.name] if books else 0, Book([], n, self.chunk, load))
            book.scores.append(score)
            self.columns[score.name] = Columns(score, book)

    @cached_property
    def reader(self) -> Reader:
        """Measures observations for the scores of this table."""
        return Reader(self.scores)

    @property
    def scores(self) -> list[ScoreLike]:
        """The scores, in the order in which they were added."""
        return [columns.score for columns in self.columns.values()]

    def add(self, score: ScoreLike) -> None:
        """Add a score that was never observed. Raises `InvalidValue` if it is no score or its name is taken."""
        self._check_new(score)
        self._put(Book([score], self.n, self.chunk))

    def _check_new(self, score: ScoreLike) -> None:
        """Raise `InvalidValue` unless this is a score with a fold, and with a name that is free."""
        if isinstance(score, type) or not isinstance(score, ScoreLike):
            raise InvalidValue(
                f"{score!r} is no score: pass one of adaptive_sampler.scoring, such as EL2N(), or a Score(...)."
            )
        if isinstance(score.fold, type) or not isinstance(score.fold, Fold):
            raise InvalidValue(f"score {score.name!r}: fold {score.fold!r} must be a Fold such as Mean() or Last().")
        if not score.name.isidentifier():
            raise InvalidValue(
                f"score name {score.name!r} must be an identifier such as 'el2n_late': it names a column."
            )
        if score.name in self.columns:
            raise InvalidValue(f"two scores are named {score.name!r}: give one of them another name=.")

    def check_same(self, where: object, n: int, scores: Sequence[ScoreLike], added: Collection[str]) -> None:
        """Raise `InvalidValue` unless there are `n` rows and scores of these names, in this order.

        Scores that were `added` later need not be among them. `where`: for the message.
        """
        names = [score.name for score in scores]
        own = [name for name in self.columns if name in names or name not in added]
        if (self.n, own) != (n, names):
            later = f" (added later: {', '.join(added)})" if added else ""
            raise InvalidValue(
                f"{where} has {self.n} rows and the scores {', '.join(self.columns)}{later}; asked for were {n} and "
                f"{', '.join(names)}. Name another path, or pass what it was made with."
            )

    def _put(self, book: Book) -> None:
        """Use this book for its scores from now on."""
        self.columns |= {score.name: Columns(score, book) for score in book.scores}
        self._routes.clear()
        vars(self).pop("reader", None)

    @property
    def books(self) -> list[Book]:
        """Every book once, in the order of the first score of each."""
        return list({id(c.book): c.book for c in self.columns.values()}.values())

    def fetch(self) -> None:
        """Read all columns that are still on disk."""
        for book in self.books:
            book.records  # noqa: B018 - reads the columns

    def __getitem__(self, name: str) -> Columns:
        """The columns of a score. Raises `UnknownName` if there is none of that name."""
        try:
            return self.columns[name]
        except KeyError:
            known = ", ".join(self.columns) or "none"
            raise UnknownName(f"the store has no score {name!r}; it has {known}. Add it with store.add(...).") from None

    def matrix(self, batch: int, values: Mapping[str, Any]) -> np.ndarray:
        """The values as (scores, batch) float32 on the host; `values`: score name -> (batch,).

        Raises `InvalidValue` for values of another shape, or that are no real numbers.
        """
        arrays = [*values.values()]
        if set(map(type, arrays)) == NUMPY:  # the usual case at every training step: few operations
            try:
                matrix = np.array(arrays)
            except ValueError:
                matrix = np.empty(0)  # unequal lengths: `_line` raises below
            if matrix.dtype is FLOAT32 and matrix.shape == (len(arrays), batch):
                return matrix
        return np.stack([_line(name, value, batch) for name, value in values.items()])

    def check(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray) -> None:
        """Raise `RowError` for a row outside the table, and `NotFinite` for a NaN or inf in `values`, (scores, batch)."""
        bad = kernels.first_bad(rows, self.n, values)
        if bad >= 0:
            raise self._refusal(rows, names, values, bad)

    def _refusal(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, bad: int) -> Exception:
        """The error for a batch that is refused; `bad`: what `kernels.first_bad` returned."""
        if bad < len(rows):
            return RowError(
                f"row {rows[bad]} at position {bad} of the batch is outside 0 … {self.n - 1}: the store has {self.n} rows. "
                "Is it the store of another dataset? store.grow(n) adds rows."
            )
        line, bad = divmod(bad - len(rows), len(rows))
        return NotFinite(
            f"{names[line]} of row {rows[bad]} is {values[line, bad]} (position {bad} of the batch): a score must be "
            "finite. Nothing of the batch was recorded. Leave such samples out; LossHook does so and counts them."
        )

    def fold(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """Fold values, (scores, batch), all or nothing.

        Raises as `check` does. If a custom fold raises, everything that was folded of the batch is undone.
        """
        route, may_raise = self._routes.get(names) or self._route(names)
        undo = []
        if may_raise:
            self.check(rows, names, values)
            undo = [(book, book.rows(rows)) for book, _ in route]
        try:
            for book, program in route:
                bad = book.fold(rows, values, epoch, program)
                if bad >= 0:
                    raise self._refusal(rows, names, values, bad)
        except BaseException:
            for book, saved in undo:
                book.put(rows, saved)
            raise

    def fold_all(self, groups: Sequence[tuple[str, ...]], parts: Iterable[Update], epoch: int) -> None:
        """Fold many parts, no two of the same rows and score, all or nothing; each has the names of one of `groups`.

        Rows and values are checked ones. A custom fold may raise, so the rows of all parts are copied then, to undo them. Else
        only `parts` can fail: it raises `FoldedInPart` from what that raised.
        """
        routes = {names: self._routes.get(names) or self._route(names) for names in groups}  # splits books first
        if any(may_raise for _, may_raise in routes.values()):
            self._fold_or_undo(parts, epoch)
            return
        try:
            for part in parts:
                self.fold(*part, epoch)
        except BaseException as error:
            raise FoldedInPart from error

    def _fold_or_undo(self, parts: Iterable[Update], epoch: int) -> None:
        undo = []
        try:
            for part in parts:
                route, _ = self._routes.get(part.names) or self._route(part.names)
                undo += [(book, part.rows, book.rows(part.rows)) for book, _ in route]
                self.fold(*part, epoch)
        except BaseException:
            for book, rows, saved in reversed(undo):
                book.put(rows, saved)
            raise

    def apart(self, names: Collection[str]) -> None:
        """Give these scores books that have no others: from now on they are observed without those."""
        for book in {id(self[name].book): self[name].book for name in names}.values():
            leaving = [score for score in book.scores if score.name in names]
            if len(leaving) < len(book.scores):
                staying = [score for score in book.scores if score.name not in names]
                for part in (book.having(leaving), book.having(staying)):
                    self._put(part)

    def _route(self, names: tuple[str, ...]) -> tuple[list[tuple[Book, Program]], bool]:
        """The books of these scores, each with its program, and whether a fold may raise, as only a custom one may.

        If a book also has scores that are not among these, it is split in two: one book for each part.
        """
        lines = {name: line for line, name in enumerate(names)}
        self.apart(names)
        books = [book for book in self.books if book.scores[0].name in lines]
        route = [(book, book.program(lines)) for book in books]
        self._routes[names] = route, any(program.custom for _, program in route)
        return self._routes[names]

    def read(self, name: str, part: slice) -> np.ndarray:
        """A slice of a score, float32, read-only. Raises `InvalidValue` for a slice whose step is not 1."""
        columns = self[name]
        start, stop, step = part.indices(self.n)
        if step != 1:
            raise InvalidValue(f"slice step {step}: scores are read in runs of rows. Slice the result instead.")
        return _read_only(columns.read(start, max(start, stop)))

    def column(self, name: str, column: str) -> np.ndarray:
        """The column count or last_seen of a score, (n,), read-only."""
        return _read_only(self[name].book.column(("", column)))

    def digest(self) -> int:
        """A checksum of all columns of all scores."""
        books = {id(book): book.checksums() for book in self.books}
        each = [[books[id(c.book)][key] for key in c.keys] for c in self.columns.values()]
        return checksum([np.array(list(chain(*each)))])

    @property
    def by_batches(self) -> bool:
        """Whether a custom fold may tell two batches of rows from one that has the rows of both."""
        return any(rule_of(score.fold) is None for score in self.scores)

    def begin_run(self) -> None:
        """End the current training run for every score, unless nothing was ever observed."""
        if any(book.observations for book in self.books):
            for columns in self.columns.values():
                columns.begin_run()

    def grow(self, n: int) -> None:
        """Append rows that were never observed, up to `n`. Raises `InvalidValue` for an `n` below the present one."""
        if n < self.n:
            raise InvalidValue(f"grow({n}): the store has {self.n} rows already, and rows are never taken away.")
        chunk = chunk_rows(n)
        grown = [book.grown(n, chunk) for book in self.books]
        for book in grown:
            self._put(book)
        self.n, self.chunk = n, chunk


def _line(name: str, values: Any, batch: int) -> np.ndarray:
    """One score's values as (batch,) float32 on the host. Raises `InvalidValue` for another shape or kind of dtype."""
    host = numbers(to_host(as_array(values)))
    if host.shape != (batch,):
        raise InvalidValue(
            f"{name}: {host.shape} values for {(batch,)} rows; one value a row is needed. The leading axis of every "
            "observation must be that of rows."
        )
    if host.dtype.kind not in "fiub":
        raise InvalidValue(f"{name}: values of dtype {host.dtype} are no real numbers.")
    with np.errstate(all="ignore"):
        return host.astype(FLOAT32)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.setflags(write=False)
    return view
