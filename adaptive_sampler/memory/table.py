"""The scores in memory: check measured values, fold them into the columns, and read the scores back."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np

from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import InvalidValue, NotFinite, RowError, UnknownName
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.memory.book import Book, Load, Program, chunk_rows, rule_of
from adaptive_sampler.memory.columns import Columns, check_new
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.scoring.reading import Reader

# Whether a store keeps what each training run observed apart, beside the scores over all.
Runs = Literal["mean", "kept"]


class Update(NamedTuple):
    """Values of some scores that were observed together: `rows`, (batch,) int64, and `values`, (scores, batch) float32."""

    rows: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray


class FoldedInPart(Exception):
    """Of several parts some were folded and the next could not be had; its cause says why."""


class Table:
    """The columns of some scores for rows 0 … n − 1.

    For a version on disk, `load` reads chunks, and `books` maps each score to a number: scores with equal numbers, which have
    always been observed together, share a book.

    `runs`: number of a training run -> what was observed in it alone, the current one last, if the store keeps its runs apart;
    else nothing.
    """

    def __init__(
        self,
        scores: Sequence[ScoreLike],
        n: int,
        load: Load | None = None,
        chunk: int | None = None,
        books: Mapping[str, int] | None = None,
    ) -> None:
        self.n = n
        self.chunk = chunk_rows(n) if chunk is None else chunk
        self.columns: dict[str, Columns] = {}
        self.runs: dict[int, Table] = {}
        self._routes: dict[tuple[str, ...], tuple[list[tuple[Book, Program]], bool]] = {}
        shared: dict[int, Book] = {}
        for score in scores:
            check_new(score, self.columns)
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
        check_new(score, self.columns)
        self._put(Book([score], self.n, self.chunk))
        for run in self._current:
            run.add(score)

    def check_same(
        self, where: object, n: int, scores: Sequence[ScoreLike], added: Collection[str], runs: Runs | None
    ) -> None:
        """Raise `InvalidValue` unless there are `n` rows and scores of these names, in this order, and `runs` are kept so.

        Scores that were `added` later need not be among them. `where`: for the message. `runs`: None if nobody asked for it.
        """
        there = "kept" if self.runs else "mean"
        if runs not in (None, there):
            raise InvalidValue(
                f"{where} was made with runs={there!r}, asked for was runs={runs!r}: what was observed cannot be told apart later. "
                f"Pass runs={there!r}, or name another path."
            )
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

    def parts(self) -> "Iterator[tuple[str, Table]]":
        """This table and those of its runs, each with what its scores' names begin with on disk."""
        yield "", self
        for number, run in self.runs.items():
            yield f"{number}/", run

    @property
    def _current(self) -> "list[Table]":
        """The table of the current run, if runs are kept apart; what is folded here is folded there, too."""
        return [self.runs[max(self.runs)]] if self.runs else []

    def fetch(self) -> None:
        """Read all columns that are still on disk."""
        for _, part in self.parts():
            for book in part.books:
                book.records  # noqa: B018 - reads the columns

    def __getitem__(self, name: str) -> Columns:
        """The columns of a score. Raises `UnknownName` if there is none of that name."""
        try:
            return self.columns[name]
        except KeyError:
            known = ", ".join(self.columns) or "none"
            raise UnknownName(f"the store has no score {name!r}; it has {known}. Add it with store.add(...).") from None

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
        route, may_raise = self._routed(names)
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
        routes = [self._routed(names) for names in groups]  # splits books
        if any(may_raise for _, may_raise in routes):
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
                undo += [(book, part.rows, book.rows(part.rows)) for book, _ in self._routed(part.names)[0]]
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

    def _routed(self, names: tuple[str, ...]) -> tuple[list[tuple[Book, Program]], bool]:
        """As `_route`, and the books of the current run; what is still on disk is read here, so that it cannot fail in mid-fold."""
        route, may_raise = self._routes.get(names) or self._route(names)
        if self.runs:
            route = route + self._current[0]._routed(names)[0]
        return route, may_raise

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
        return checksum([np.array([*chain(*each), *(run.digest() for run in self.runs.values())])])

    @property
    def by_batches(self) -> bool:
        """Whether a custom fold may tell two batches of rows from one that has the rows of both."""
        return any(rule_of(score.fold) is None for score in self.scores)

    @property
    def _unobserved(self) -> bool:
        return not any(book.observations for book in self.books)

    def begin_run(self, number: int) -> None:
        """End the current training run for every score, unless nothing was ever observed; `number` is that of the next."""
        if not self._unobserved:
            for columns in self.columns.values():
                columns.begin_run()
        for run in self._current:
            if run._unobserved:
                del self.runs[max(self.runs)]
            self.keep_run(number)

    def keep_run(self, number: int) -> None:
        """From now on keep what is observed apart, as that of the training run `number`, too."""
        self.runs[number] = Table(self.scores, self.n, chunk=self.chunk)

    def grow(self, n: int) -> None:
        """Append rows that were never observed, up to `n`. Raises `InvalidValue` for an `n` below the present one."""
        if n < self.n:
            raise InvalidValue(f"grow({n}): the store has {self.n} rows already, and rows are never taken away.")
        chunk = chunk_rows(n)
        grown = [book.grown(n, chunk) for book in self.books]
        for book in grown:
            self._put(book)
        self.n, self.chunk = n, chunk
        for run in self.runs.values():
            run.grow(n)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.setflags(write=False)
    return view
