"""A book: the columns of scores that are always observed together, read from the last commit when they are needed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import StoreDamaged
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.memory.records import Key, Records
from adaptive_sampler.scoring.base import BOOKKEEPING, REGISTRY, Column, Fold, ScoreLike, State

CHUNK = 1 << 20  # rows: zarr spends about 1 ms of Python on a chunk, so smaller chunks are slower to read and write

Load = Callable[[Sequence[tuple[str, str, int]]], Iterable[np.ndarray | None]]
"""(score, column, chunk number) of some chunks -> the bytes of each, in order; None: all fill."""


@dataclass(frozen=True)
class Program:
    """How the lines of a matrix of values are folded into a book: by the kernel, and by custom folds."""

    told: tuple[Any, ...]  # the arguments of `kernels.fold` from `steps` on
    custom: list[tuple[ScoreLike, int]]  # the scores with a custom fold, and the line of each


class Book:
    """The columns of scores that are always observed together, and so share the columns count and last_seen.

    `dirty`: (chunks,) bool, which chunks changed since the last commit. `observed`: how many rows were observed.
    `observations`: how many observations there were in all. `load` reads chunks from disk.
    """

    def __init__(self, scores: Sequence[ScoreLike], n: int, chunk: int, load: Load | None = None) -> None:
        self.scores, self.n, self.chunk = list(scores), n, chunk
        self.observed = self.observations = 0
        self.dirty = np.zeros(-(-n // chunk), np.bool_)
        self._shift = (chunk - 1).bit_length()  # row >> shift is the row's chunk
        if len(self.dirty) > 1 and chunk != 1 << self._shift:
            raise StoreDamaged(f"chunks of {chunk} rows: a store of {n} has one chunk, or chunks of a power of two.")
        self._load = load
        self._records: tuple[Records, Records] | None = None

    @property
    def records(self) -> tuple[Records, Records]:
        """The records with count and last_seen, and the records with the scores' own columns.

        Both are the same object, unless there is only one own column: it gets memory of its own, because plans read it
        whole.
        """
        if self._records is None:
            self._records = self._read()
        return self._records

    @property
    def on_disk(self) -> bool:
        """Whether the columns are still on disk alone."""
        return self._records is None and self._load is not None

    @property
    def keys(self) -> list[Key]:
        """The names of all columns, as (score, column); the shared ones come first, with score ""."""
        return list(self._spec)

    @property
    def _spec(self) -> dict[Key, Column]:
        """Dtype and fill value of all columns; the shared ones come first."""
        own = {(score.name, name): column for score in self.scores for name, column in score.fold.columns.items()}
        return {("", name): column for name, column in BOOKKEEPING.items()} | own

    def _read(self) -> tuple[Records, Records]:
        """Make the records, and read what the last commit has of them."""
        ledger = {key: column for key, column in self._spec.items() if not key[0]}
        own = {key: column for key, column in self._spec.items() if key[0]}
        apart = len(own) == 1
        found = Records(ledger if apart else ledger | own, self.n)
        both = found, Records(own, self.n) if apart else found
        if self._load is not None:
            self._fetch({key: both[bool(key[0])].columns[key] for key in ledger | own}, 0, self.n, self._load)
        return both

    def column(self, key: Key) -> np.ndarray:
        """One column, (n,), writable."""
        return self.records[bool(key[0])].columns[key]

    def parts(self, columns: Mapping[Key, Column], start: int, stop: int) -> dict[Key, np.ndarray]:
        """Rows `start` … `stop` − 1 of these columns. If they are still on disk, only the chunks that hold them are read."""
        if not self.on_disk or self._load is None:
            return {key: self.column(key)[start:stop] for key in columns}
        parts = {key: np.full(stop - start, column.fill, column.dtype) for key, column in columns.items()}
        self._fetch(parts, start, stop, self._load)
        return parts

    def committed(self, load: Load) -> None:
        """Note that a version was committed: what is still on disk is read by `load`, of that version, from now on.

        The version that it was read from until now may be dropped.
        """
        self._load = None if self._load is None else load

    def program(self, lines: Mapping[str, int]) -> Program:
        """How to fold a matrix of values in which `lines` gives the line of each score."""
        steps, decays, custom = [], [], []
        for score in self.scores:
            rule = rule_of(score.fold)
            if rule is None:
                custom.append((score, lines[score.name]))
            else:
                first = (score.name, next(iter(score.fold.columns)))
                steps.append((rule, lines[score.name], self.records[1].at[first]))
                decays.append(getattr(score.fold, "decay", 0.0))
        rules = np.array(steps, np.int64).reshape(-1, 3), np.array(decays)
        return Program((*rules, *(records.octets for records in self.records), self._shift, self.dirty), custom)

    def checksums(self) -> dict[Key, int]:
        """A checksum of each column. What is still on disk is read and not kept."""
        found: dict[Key, np.ndarray] = {}
        if self.on_disk and self._load is not None:
            for start in range(0, self.n, self.chunk):
                stop = min(start + self.chunk, self.n)
                near = Records(self._spec, stop - start)
                self._fetch(near.columns, start, stop, self._load)
                found = near.mixed(found)
        else:
            for records in dict.fromkeys(self.records):
                found |= records.mixed({})
        return {key: checksum([found[key]]) for key in self._spec}

    def fold(self, rows: np.ndarray, values: np.ndarray, epoch: int, program: Program) -> int:
        """Fold values, (scores, batch), and return −1.

        For a bad row or value, fold nothing and return what `kernels.first_bad` returns. If a custom fold raises, the
        caller can undo the call with `put`, if it called `rows` before.
        """
        before = np.empty(len(rows), np.uint32)
        new: int = kernels.fold(rows, values, epoch, before, *program.told)
        if new < 0:
            return -1 - new
        self.observed += new
        self.observations += len(rows)
        for score, line in program.custom:
            score.fold.fold(self.state(score), rows, values[line], before)
        return -1

    def state(self, score: ScoreLike) -> State:
        """A score's own columns, (n,) each, writable."""
        return {name: self.column((score.name, name)) for name in score.fold.columns}

    def count_anew(self) -> None:
        """Note that the columns were written from outside: all of them are to be committed, and the counters follow them."""
        count = self.column(("", "count"))
        self.observed, self.observations = int(np.count_nonzero(count)), int(count.sum(dtype=np.int64))
        self.dirty[:] = True

    def rows(self, rows: np.ndarray) -> tuple[int, int, list[np.ndarray]]:
        """Copies of these rows in all columns, and the two counters, for `put` to write back."""
        return self.observed, self.observations, [records.octets[rows] for records in self.records]

    def put(self, rows: np.ndarray, saved: tuple[int, int, list[np.ndarray]]) -> None:
        """Write back what `rows` copied."""
        self.observed, self.observations, copies = saved
        for records, copy in zip(self.records, copies, strict=True):
            records.octets[rows] = copy

    def chunk_parts(self, index: int) -> dict[Key, list[np.ndarray]]:
        """One chunk of every column as Zarr stores it: little-endian, and the last chunk filled up to full length.

        Each is a list of arrays that lie one behind the other in the chunk.
        """
        start, stop = index * self.chunk, min((index + 1) * self.chunk, self.n)
        ledger, own = self.records
        parts = ledger.apart(start, stop) | ({} if own is ledger else own.apart(start, stop))
        found = {}
        for key, spec in self._spec.items():
            part = parts[key].astype(_little(spec), copy=False)
            missing = self.chunk - len(part)
            found[key] = [part] + ([np.full(missing, spec.fill, part.dtype)] if missing else [])
        return found

    def having(self, scores: Sequence[ScoreLike]) -> "Book":
        """A new book with some of this book's scores and their columns, which are from now on observed separately."""
        part = Book(scores, self.n, self.chunk, self._load)
        part.dirty[:] = self.dirty
        return part._filled(self)

    def grown(self, n: int, chunk: int) -> "Book":
        """A copy of this book with rows up to `n`. If chunks get another length, all chunks with old rows are dirty."""
        new = Book(self.scores, n, chunk)
        if self._load is not None:
            self.records  # noqa: B018 - reads the columns, because those on disk have fewer rows
        if chunk == self.chunk:
            new.dirty[: len(self.dirty)] = self.dirty
        else:
            new.dirty[: -(-self.n // chunk)] = True
        return new._filled(self)

    def _filled(self, old: "Book") -> "Book":
        """Take over the contents of `old`, and return this book. Columns that are still on disk stay there."""
        self.observed, self.observations = old.observed, old.observations
        if old._records is not None:
            self._load = None
            for key in chain(*(records.columns for records in self.records)):
                self.column(key)[: old.n] = old.column(key)
        return self

    def _fetch(self, into: Mapping[Key, np.ndarray], start: int, stop: int, load: Load) -> None:
        """Read rows `start` … `stop` − 1 of columns from disk, each into its array of `into`.

        Chunks that were never committed leave the arrays as they are.
        """
        chunks = range(start // self.chunk, -(-stop // self.chunk) if stop > start else 0)
        places = [(key, index) for key in into for index in chunks]
        read = load([(key[0] or self.scores[0].name, key[1], index) for key, index in places])
        spec = self._spec
        for (key, index), data in zip(places, read, strict=True):
            if data is not None:
                low, data = index * self.chunk, _typed(data, spec[key], self.chunk)
                first, last = max(start, low), min(stop, low + self.chunk)
                into[key][first - start : last - start] = data[first - low : last - low]


def rule_of(fold: Fold) -> int | None:
    """The kernel's number for the rule of a built-in fold, which cannot raise; None for a custom fold."""
    built_in = REGISTRY.get(str(getattr(fold, "kind", None))) is type(fold)
    return getattr(fold, "rule", None) if built_in else None


def _little(column: Column) -> np.dtype:
    return np.dtype(column.dtype).newbyteorder("<")


def _typed(data: np.ndarray, column: Column, rows: int) -> np.ndarray:
    """The bytes of a chunk in the column's dtype. Raises `StoreDamaged` if they are not `rows` rows."""
    dtype = _little(column)
    if data.nbytes != rows * dtype.itemsize:
        raise StoreDamaged(
            f"a chunk has {data.nbytes} bytes, {rows} rows of {column.dtype} need {rows * dtype.itemsize}: this was not written by "
            "a commit of this package. Open another version."
        )
    return data.view(dtype)


def chunk_rows(n: int) -> int:
    """How many rows a chunk has in a store of `n` rows."""
    return min(max(n, 1), CHUNK)
