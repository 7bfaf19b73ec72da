"""The scores in memory: measure an observation, check the values, fold them into the columns, read them back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from adaptive_sampler.arrays import Array, as_array, to_host
from adaptive_sampler.errors import InvalidValue, RowError, UnknownName
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.scoring.base import ScoreLike, State
from adaptive_sampler.storage.columns import Block, Book, Columns, Load
from adaptive_sampler.storage.layout import chunk_rows

Values = Mapping[str, np.ndarray]  # score name -> (batch,) float32


class Table:
    """The columns of some scores for rows 0 … n − 1.

    Where there is something to read, `load(name)` reads a score's chunks, and scores of equal `books` number, which
    have always been observed together, share their book.
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
        self.observations: dict[str, int] = {}
        self._routes: dict[tuple[str, ...], list[tuple[Book, list[Columns]]]] = {}
        self._observed: dict[int, tuple[Book, int, int]] = {}
        shared: dict[int, Book] = {}
        for score in scores:
            reads = load(score.name) if load else None
            number = books[score.name] if books else 0
            self.add(score, shared.setdefault(number, Book(n, self.chunk, reads)), reads)

    @property
    def scores(self) -> list[ScoreLike]:
        """The scores, in the order in which they were added."""
        return [columns.score for columns in self.columns.values()]

    def add(self, score: ScoreLike, book: Book | None = None, load: Load | None = None) -> None:
        """A new score, never observed. Raises `InvalidValue` where there is one of that name."""
        if isinstance(score, type) or not isinstance(score, ScoreLike):
            raise InvalidValue(
                f"{score!r} is no score: pass one of adaptive_sampler.scoring, such as EL2N(), or a Score(...)."
            )
        if not score.name.isidentifier():
            raise InvalidValue(
                f"score name {score.name!r} must be an identifier such as 'el2n_late': it names a column."
            )
        if score.name in self.columns:
            raise InvalidValue(f"two scores are named {score.name!r}: give one of them another name=.")
        self.columns[score.name] = Columns(score, book or Book(self.n, self.chunk), load)
        self.observations[score.name] = 0
        self._routes.clear()

    @property
    def books(self) -> dict[str, int]:
        """Which scores share a book: those of equal number."""
        found: dict[int, int] = {}
        return {name: found.setdefault(id(c.book), len(found)) for name, c in self.columns.items()}

    def __getitem__(self, name: str) -> Columns:
        try:
            return self.columns[name]
        except KeyError:
            known = ", ".join(self.columns) or "none"
            raise UnknownName(f"the store has no score {name!r}; it has {known}. Add it with store.add(...).") from None

    def measure(self, observation: Mapping[str, Array]) -> dict[str, Array]:
        """What an observation says, on its own device: score name -> (batch,). Raises `InvalidValue` if it feeds no score."""
        observation = {name: as_array(array) for name, array in observation.items()}
        values = {}
        for columns in self.columns.values():
            score = columns.score
            for names in score.inputs:
                if all(name in observation for name in names):
                    optional = _optional(score, observation) if len(score.inputs) == 1 else {}
                    values[score.name] = score.measure(**{name: observation[name] for name in names}, **optional)
                    break
        if not values:
            wanted = "; ".join(
                f"{c.score.name}: {' or '.join(' + '.join(names) for names in c.score.inputs)}"
                for c in self.columns.values()
            )
            raise InvalidValue(
                f"the observation ({', '.join(observation) or 'empty'}) feeds no score. They take {wanted}."
            )
        return values

    def check(self, rows: np.ndarray, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The values as float32 on the host. Raises, before anything is folded, if a row, shape or value breaks a rule."""
        bad = kernels.first_outside(rows, self.n)
        if bad >= 0:
            raise RowError(
                f"row {rows[bad]} at position {bad} of the batch is outside 0 … {self.n - 1}: the store has {self.n} rows. "
                "Is it the store of another dataset? store.grow(n) adds rows."
            )
        checked = {}
        for name, value in values.items():
            host = value if type(value) is np.ndarray else to_host(as_array(value))
            if host.shape != rows.shape:
                raise InvalidValue(
                    f"{name}: {host.shape} values for {rows.shape} rows; one value a row is needed. The leading axis of every "
                    "observation must be that of rows."
                )
            if host.dtype.kind not in "fiub":
                raise InvalidValue(f"{name}: values of dtype {host.dtype} are no real numbers.")
            if host.dtype != np.float32 or not host.flags.c_contiguous:
                with np.errstate(over="ignore"):
                    host = np.ascontiguousarray(host, np.float32)
            checked[name] = host
            bad = kernels.first_nonfinite(host)
            if bad >= 0:
                raise InvalidValue(
                    f"{name} of row {rows[bad]} is {host[bad]} (position {bad} of the batch): a score must be finite. "
                    "Nothing of the batch was recorded. Leave such samples out; LossHook does so and counts them."
                )
        return checked

    def fold(self, rows: np.ndarray, values: Values, epoch: int) -> None:
        """Fold checked values in, all or nothing: where a custom fold, which may raise, is among them, all can be undone."""
        route = self._routes.get(tuple(values)) or self._route(tuple(values))
        undo: list[tuple[Block, State]] = []
        if not all(columns.trusted for _, shelf in route for columns in shelf):
            undo = [(block, block.rows(rows)) for book, shelf in route for block in (book, *shelf)]
        try:
            for book, shelf in route:
                before = book.observe(rows, epoch)
                for columns in shelf:
                    columns.fold(rows, values[columns.score.name], before)
        except BaseException:
            for block, old in undo:
                block.put(rows, old)
            raise
        for name in values:
            self.observations[name] += len(rows)

    def _route(self, names: tuple[str, ...]) -> list[tuple[Book, list[Columns]]]:
        """The books of these scores, each with those of its scores; scores that leave others behind get a book of their own."""
        books = {id(self.columns[name].book): self.columns[name].book for name in names}
        for book in books.values():
            sharing = [c for c in self.columns.values() if c.book is book]
            leaving = [c for c in sharing if c.score.name in names]
            if len(leaving) < len(sharing):
                own = book.copy()
                for columns in leaving:
                    columns.book = own
                self._routes.clear()
        shelves: dict[int, tuple[Book, list[Columns]]] = {}
        for name in names:
            columns = self.columns[name]
            shelves.setdefault(id(columns.book), (columns.book, []))[1].append(columns)
        self._routes[names] = list(shelves.values())
        return self._routes[names]

    def read(self, name: str, part: slice) -> np.ndarray:
        """A slice of a score, float32, read-only."""
        columns = self[name]
        start, stop, step = part.indices(self.n)
        if step != 1:
            raise InvalidValue(f"slice step {step}: scores are read in runs of rows. Slice the result instead.")
        return _read_only(columns.read(start, max(start, stop)))

    def column(self, name: str, column: str) -> np.ndarray:
        """One column of a score's book, (n,), read-only."""
        return _read_only(self[name].book.state[column])

    def observed(self, name: str) -> int:
        """How many rows have been observed; counted anew only after an update."""
        book, observations = self[name].book, self.observations[name]
        found = self._observed.get(id(book))
        if found is None or found[0] is not book or found[1] != observations:
            found = book, observations, int(np.count_nonzero(book.state["count"])) if observations else 0
            self._observed[id(book)] = found
        return found[2]

    def grow(self, n: int) -> None:
        """Rows up to `n`, the new ones never observed."""
        if n < self.n:
            raise InvalidValue(f"grow({n}): the store has {self.n} rows already, and rows are never taken away.")
        self.chunk = chunk_rows(n)
        books = {id(c.book): c.book for c in self.columns.values()}
        grown = {key: book.grown(n, self.chunk) for key, book in books.items()}
        self.columns = {name: c.grown(grown[id(c.book)]) for name, c in self.columns.items()}
        self._routes.clear()
        self.n = n


def _optional(score: ScoreLike, observation: Mapping[str, Array]) -> dict[str, Array]:
    """The observation's arrays that a custom measure takes by parameters with a default."""
    names = getattr(score, "optional", ())
    return {name: observation[name] for name in names if name in observation}


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.setflags(write=False)
    return view
