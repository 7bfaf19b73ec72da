"""One score's columns in memory: read from the last commit when first needed, with the chunks changed since marked."""

from collections.abc import Callable, Mapping

import numpy as np

from adaptive_sampler.errors import StoreDamaged
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.scoring.base import BOOKKEEPING, REGISTRY, Column, Fold, ScoreLike, State

Load = Callable[[str, int], np.ndarray | None]  # (column name, chunk) -> its bytes, or None where all is fill


def all_columns(fold: Fold) -> Mapping[str, Column]:
    """The fold's own columns and the two that every score has."""
    return {**fold.columns, **BOOKKEEPING}


class Columns:
    """The state of one score for rows 0 … n − 1."""

    def __init__(self, score: ScoreLike, n: int, chunk: int, load: Load | None = None) -> None:
        self.score, self.n, self.chunk = score, n, chunk
        self.spec = all_columns(score.fold)
        self.dirty = np.zeros(-(-n // chunk), np.bool_)
        self._load, self._state = load, None if load else self._read(0, n, lambda name, c: None)

    @property
    def state(self) -> State:
        """All columns, (n,) each, writable."""
        if self._state is None:
            assert self._load is not None
            self._state = self._read(0, self.n, self._load)
        return self._state

    def part(self, start: int, stop: int) -> State:
        """Rows `start` … `stop` − 1 of all columns, without reading more than the chunks they lie in."""
        if self._state is None and self._load is not None:
            return self._read(start, stop, self._load)
        return {name: column[start:stop] for name, column in self.state.items()}

    @property
    def trusted(self) -> bool:
        """Whether the fold is a built-in one, which does not raise."""
        return REGISTRY.get(str(getattr(self.score.fold, "kind", None))) is type(self.score.fold)

    def fold(self, rows: np.ndarray, values: np.ndarray, epoch: int) -> None:
        """Fold checked values in. Where the fold raises, `rows` and `put` are the way back."""
        self.score.fold.fold(self.state, rows, values, epoch)
        kernels.mark(rows, self.chunk, self.dirty)

    def rows(self, rows: np.ndarray) -> State:
        """Copies of these rows of all columns."""
        return {name: column[rows] for name, column in self.state.items()}

    def put(self, rows: np.ndarray, state: State) -> None:
        """Write back what `rows` copied."""
        for name, column in state.items():
            self.state[name][rows] = column

    def begin_run(self) -> None:
        """Close what belongs to the run that ends."""
        before = {name: column.copy() for name, column in self.state.items()}
        self.score.fold.begin_run(self.state)
        for name, column in self.state.items():
            self._mark_changed(before[name], column)

    def grown(self, n: int, chunk: int) -> "Columns":
        """These columns with rows up to `n`, the new ones never observed. Chunks of another length are all changed."""
        new = Columns(self.score, n, chunk)
        for name, column in self.state.items():
            new.state[name][: self.n] = column
        if chunk == self.chunk:
            new.dirty[: len(self.dirty)] = self.dirty
        else:
            new.dirty[: -(-self.n // chunk)] = True
        return new

    def chunk_parts(self, name: str, index: int) -> list[np.ndarray]:
        """One chunk of one column as Zarr stores it: little-endian, the last one filled up."""
        spec, column = self.spec[name], self.state[name]
        part = column[index * self.chunk : (index + 1) * self.chunk].astype(
            np.dtype(spec.dtype).newbyteorder("<"), copy=False
        )
        missing = self.chunk - len(part)
        return [part] + ([np.full(missing, spec.fill, part.dtype)] if missing else [])

    def _read(self, start: int, stop: int, load: Load) -> State:
        state: State = {}
        for name, spec in self.spec.items():
            fill = spec.fill
            column = np.zeros(stop - start, spec.dtype) if fill == 0 else np.full(stop - start, fill, spec.dtype)
            for index in range(start // self.chunk, -(-stop // self.chunk) if stop > start else 0):
                data = load(name, index)
                if data is not None:
                    low, data = index * self.chunk, _typed(data, spec, self.chunk)
                    first, last = max(start, low), min(stop, low + self.chunk)
                    column[first - start : last - start] = data[first - low : last - low]
            state[name] = column
        return state

    def _mark_changed(self, before: np.ndarray, after: np.ndarray) -> None:
        changed = (before != after) & ~((before != before) & (after != after))
        self.dirty[np.flatnonzero(changed) // self.chunk] = True


def _typed(data: np.ndarray, column: Column, rows: int) -> np.ndarray:
    dtype = np.dtype(column.dtype).newbyteorder("<")
    if data.nbytes != rows * dtype.itemsize:
        raise StoreDamaged(
            f"a chunk has {data.nbytes} bytes, {rows} rows of {column.dtype} need {rows * dtype.itemsize}: this was not written by "
            "a commit of this package. Open another version."
        )
    return data.view(dtype)
