"""Columns in memory: read from the last commit when first needed, with the chunks that changed since marked."""

from collections.abc import Callable, Mapping
from typing import Self

import numpy as np

from adaptive_sampler.errors import StoreDamaged
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.scoring.base import BOOKKEEPING, REGISTRY, Column, Fold, ScoreLike, State

Load = Callable[[str, int], np.ndarray | None]  # (column name, chunk) -> its bytes, or None where all is fill


def all_columns(fold: Fold) -> Mapping[str, Column]:
    """The fold's own columns and the two that every score has."""
    return {**fold.columns, **BOOKKEEPING}


class Block:
    """Some columns of rows 0 … n − 1."""

    def __init__(self, spec: Mapping[str, Column], n: int, chunk: int, load: Load | None = None) -> None:
        self.spec, self.n, self.chunk = spec, n, chunk
        self._load = load
        self._state = None if load else _read(spec, chunk, 0, n, lambda name, index: None)

    @property
    def state(self) -> State:
        """All columns, (n,) each, writable."""
        if self._state is None:
            assert self._load is not None
            self._state = _read(self.spec, self.chunk, 0, self.n, self._load)
        return self._state

    def part(self, start: int, stop: int) -> State:
        """Rows `start` … `stop` − 1 of all columns, without reading more than the chunks they lie in."""
        if self._state is None and self._load is not None:
            return _read(self.spec, self.chunk, start, stop, self._load)
        return {name: column[start:stop] for name, column in self.state.items()}

    def rows(self, rows: np.ndarray) -> State:
        """Copies of these rows of all columns."""
        return {name: column[rows] for name, column in self.state.items()}

    def put(self, rows: np.ndarray, state: State) -> None:
        """Write back what `rows` copied."""
        for name, column in state.items():
            self.state[name][rows] = column

    def fill(self, old: "Block") -> Self:
        """Take over the rows of `old`."""
        for name, column in old.state.items():
            self.state[name][: old.n] = column
        return self

    def chunk_parts(self, name: str, index: int) -> list[np.ndarray]:
        """One chunk of one column as Zarr stores it: little-endian, the last one filled up."""
        spec, column = self.spec[name], self.state[name]
        part = column[index * self.chunk : (index + 1) * self.chunk].astype(_little(spec), copy=False)
        missing = self.chunk - len(part)
        return [part] + ([np.full(missing, spec.fill, part.dtype)] if missing else [])


class Book(Block):
    """How often and when rows were observed, for all scores that are observed together: they share one book.

    `dirty`: (chunks,) which chunks of the book and of its scores changed since the last commit.
    """

    def __init__(self, n: int, chunk: int, load: Load | None = None) -> None:
        super().__init__(BOOKKEEPING, n, chunk, load)
        self.dirty = np.zeros(-(-n // chunk), np.bool_)

    def observe(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """Count the rows -> (batch,) uint32, how often each had been observed before."""
        state = self.state
        before: np.ndarray = kernels.observe(rows, epoch, self.chunk, state["count"], state["last_seen"], self.dirty)
        return before

    def copy(self) -> "Book":
        """The same, for scores that from now on are observed apart."""
        twin = Book(self.n, self.chunk).fill(self)
        twin.dirty[:] = self.dirty
        return twin

    def grown(self, n: int, chunk: int) -> "Book":
        """The same with rows up to `n`. Chunks of another length are all changed."""
        new = Book(n, chunk).fill(self)
        if chunk == self.chunk:
            new.dirty[: len(self.dirty)] = self.dirty
        else:
            new.dirty[: -(-self.n // chunk)] = True
        return new


class Columns(Block):
    """One score's own columns, and the book that it shares."""

    def __init__(self, score: ScoreLike, book: Book, load: Load | None = None) -> None:
        super().__init__(score.fold.columns, book.n, book.chunk, load)
        self.score, self.book = score, book

    @property
    def trusted(self) -> bool:
        """Whether the fold is a built-in one, which does not raise."""
        return REGISTRY.get(str(getattr(self.score.fold, "kind", None))) is type(self.score.fold)

    def fold(self, rows: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
        """Fold checked values in. Where the fold raises, `rows` and `put` are the way back."""
        self.score.fold.fold(self.state, rows, values, before)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` … `stop` − 1 of the score, float32."""
        return self.score.fold.read(self.part(start, stop) | self.book.part(start, stop))

    def begin_run(self) -> None:
        """Close what belongs to the run that ends, a chunk at a time, and mark the chunks that this changes."""
        state = self.state  # and not `part`, which may be a copy read from disk
        for index in range(len(self.book.dirty)):
            part = {name: column[index * self.chunk : (index + 1) * self.chunk] for name, column in state.items()}
            before = {name: column.copy() for name, column in part.items()}
            self.score.fold.begin_run(part)
            self.book.dirty[index] |= any(part[name].tobytes() != column.tobytes() for name, column in before.items())

    def grown(self, book: Book) -> "Columns":
        """These columns with as many rows as `book`, the new ones never observed."""
        return Columns(self.score, book).fill(self)


def _read(spec: Mapping[str, Column], chunk: int, start: int, stop: int, load: Load) -> State:
    state: State = {}
    for name, column in spec.items():
        fill, size = column.fill, stop - start
        array = np.zeros(size, column.dtype) if fill == 0 else np.full(size, fill, column.dtype)
        for index in range(start // chunk, -(-stop // chunk) if size else 0):
            data = load(name, index)
            if data is not None:
                low, data = index * chunk, _typed(data, column, chunk)
                first, last = max(start, low), min(stop, low + chunk)
                array[first - start : last - start] = data[first - low : last - low]
        state[name] = array
    return state


def _little(column: Column) -> np.dtype:
    return np.dtype(column.dtype).newbyteorder("<")


def _typed(data: np.ndarray, column: Column, rows: int) -> np.ndarray:
    dtype = _little(column)
    if data.nbytes != rows * dtype.itemsize:
        raise StoreDamaged(
            f"a chunk has {data.nbytes} bytes, {rows} rows of {column.dtype} need {rows * dtype.itemsize}: this was not written by "
            "a commit of this package. Open another version."
        )
    return data.view(dtype)
