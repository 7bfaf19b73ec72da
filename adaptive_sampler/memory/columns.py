"""The columns of one score, in the book that it shares with the scores that are observed together with it."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.book import Book
from adaptive_sampler.memory.records import Key
from adaptive_sampler.scoring.base import BOOKKEEPING, Column, Fold, ScoreLike, State


def all_columns(fold: Fold) -> Mapping[str, Column]:
    """The fold's own columns and the two that every score has."""
    return {**fold.columns, **BOOKKEEPING}


class Columns:
    """The columns of one score, `score`, in its `book`."""

    def __init__(self, score: ScoreLike, book: Book) -> None:
        self.score, self.book = score, book
        self._whole: State = {}  # all columns, once they are in memory
        self._all = {name: (self._key(name), column) for name, column in all_columns(score.fold).items()}

    @property
    def keys(self) -> list[Key]:
        """The names that all columns have in the book."""
        return [key for key, _ in self._all.values()]

    @property
    def state(self) -> State:
        """The fold's own columns, (n,) each, writable."""
        return self.book.state(self.score)

    def part(self, start: int, stop: int) -> State:
        """Rows `start` … `stop` − 1 of all columns, including the two that the book's scores share."""
        if self.book.on_disk:
            read = self.book.parts(dict(self._all.values()), start, stop)
            return {name: read[key] for name, (key, _) in self._all.items()}
        if not self._whole:  # a book keeps its arrays for good
            self._whole = {name: self.book.column(key) for name, (key, _) in self._all.items()}
        if stop - start == self.book.n:
            return dict(self._whole)
        return {name: column[start:stop] for name, column in self._whole.items()}

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` … `stop` − 1 of the score, float32."""
        return self.score.fold.read(self.part(start, stop))

    def begin_run(self) -> None:
        """End the training run for this score, chunk by chunk, and mark the chunks that this changes."""
        chunk, state = self.book.chunk, self.state  # not `part`, which may return a copy read from disk
        for index in range(len(self.book.dirty)):
            part = {name: column[index * chunk : (index + 1) * chunk] for name, column in state.items()}
            before = {name: column.copy() for name, column in part.items()}
            self.score.fold.begin_run(part)
            self.book.dirty[index] |= any(part[name].tobytes() != column.tobytes() for name, column in before.items())

    def _key(self, column: str) -> Key:
        return ("" if column in BOOKKEEPING else self.score.name), column


def check_new(score: Any, taken: Collection[str]) -> None:
    """Raise `InvalidValue` unless this is a score with a fold, and with a name that is not `taken`."""
    if isinstance(score, type) or not isinstance(score, ScoreLike):
        raise InvalidValue(
            f"{score!r} is no score: pass one of adaptive_sampler.scoring, such as EL2N(), or a Score(...)."
        )
    if isinstance(score.fold, type) or not isinstance(score.fold, Fold):
        raise InvalidValue(f"score {score.name!r}: fold {score.fold!r} must be a Fold such as Mean() or Last().")
    if not score.name.isidentifier():
        raise InvalidValue(f"score name {score.name!r} must be an identifier such as 'el2n_late': it names a column.")
    if score.name in taken:
        raise InvalidValue(f"two scores are named {score.name!r}: give one of them another name=.")
