"""The class of each row, as far as a training has shown it, for plans that must not leave out a class unnoticed."""

import weakref
from typing import Any

import numpy as np

_MOST = 1 << 20  # a label from here on names no class, but some number of its own
_AT_ONCE = 1 << 18  # rows that are counted at a time; a multiple of 8


class Classes:
    """The labels of a store's rows, which hooks note and planners ask for. They take one or two bytes a row in most cases.

    They are kept only while somebody is in `wanted_by`, and noted only until every row, or almost every one, has one.
    """

    def __init__(self) -> None:
        self.wanted_by = weakref.WeakSet[Any]()
        self._labels = np.empty(0, np.uint8)  # (rows,) label + 1; 0: not seen
        self._unseen = 1  # how many of the rows have no label

    @property
    def wanted(self) -> bool:
        """Whether labels are to be noted."""
        return self._unseen > 0 and bool(self.wanted_by)

    @property
    def seen(self) -> bool:
        """Whether any label was noted."""
        return len(self._labels) > 0

    def release(self, asking: Any) -> None:
        """`asking` wants the labels no longer; after the last one, they are dropped."""
        self.wanted_by.discard(asking)
        if not self.wanted_by:
            self._labels, self._unseen = np.empty(0, np.uint8), 1

    def note(self, rows: np.ndarray, labels: np.ndarray, n: int) -> None:
        """Note the `labels`, (m,) integers, of `rows`, (m,) int64, of the store's `n`; negative and huge ones are no classes."""
        if len(self._labels) < n:
            self._unseen = n - int(np.count_nonzero(self._labels))
            self._labels = np.concatenate([self._labels, np.zeros(n - len(self._labels), self._labels.dtype)])
        new = (self._labels[rows] == 0) & (labels >= 0) & (labels < _MOST)
        if not new.any():
            return
        rows, labels = rows[new], labels[new]
        wide = np.min_scalar_type(int(labels.max()) + 1)
        if wide.itemsize > self._labels.itemsize:
            self._labels = self._labels.astype(wide)
        self._labels[rows] = labels.astype(self._labels.dtype) + 1
        self._unseen -= len(rows)  # a row that a batch has twice counts twice: then as many rows stay without a label

    def counts(self, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many rows of each class were seen, and how many of these are kept, (classes,) int64 each.

        `kept`: a bit for each row, as in `Plan`.
        """
        most = int(self._labels.max(initial=0)) + 1
        seen, stay = np.zeros(most, np.int64), np.zeros(most, np.int64)
        for first in range(0, len(self._labels), _AT_ONCE):
            labels = self._labels[first : first + _AT_ONCE]
            bits = np.unpackbits(kept[first // 8 : (first + len(labels) + 7) // 8], bitorder="little")
            seen += np.bincount(labels, minlength=most)
            stay += np.bincount(labels[bits[: len(labels)].view(np.bool_)], minlength=most)
        return seen[1:], stay[1:]
