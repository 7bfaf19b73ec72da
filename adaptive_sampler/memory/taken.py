"""What a commit takes of a book: the chunks that changed, which count as unchanged from then on."""

from collections.abc import Iterable

import numpy as np

from adaptive_sampler.memory.book import Book
from adaptive_sampler.memory.records import Key


class TakenBook:
    """The changed chunks of a book, `dirty`, (chunks,) bool; `at`: what its scores' names begin with on disk.

    copied: they are copied now, so that the book may change while they are written. Otherwise they are read when they are
    written, and the book must not change before that.
    """

    def __init__(self, book: Book, at: str, *, copied: bool) -> None:
        self._book, self.at, self.scores, self.keys = book, at, list(book.scores), book.keys
        self.dirty = book.dirty.copy()
        changed = np.flatnonzero(self.dirty).tolist() if copied else []
        self._copies = {index: _copied(book.chunk_parts(index)) for index in changed}
        book.dirty[:] = False

    def chunk_parts(self, index: int) -> dict[Key, list[np.ndarray]]:
        """As `Book.chunk_parts`, of a changed chunk."""
        return self._copies[index] if index in self._copies else self._book.chunk_parts(index)

    def give_back(self, books: Iterable[Book]) -> None:
        """Let the chunks count as changed again, in those of these books that have the scores now."""
        mine = {score.name for score in self.scores}
        for book in books:
            if mine.isdisjoint(score.name for score in book.scores):
                continue
            if book.chunk == self._book.chunk:  # it may have more rows than it had
                book.dirty[: len(self.dirty)] |= self.dirty
            else:
                book.dirty[: -(-self._book.n // book.chunk)] = True


def _copied(parts: dict[Key, list[np.ndarray]]) -> dict[Key, list[np.ndarray]]:
    return {key: [part.copy() for part in some] for key, some in parts.items()}
