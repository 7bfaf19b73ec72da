"""One column of the user's own, such as the source of each sample or its length: numbers, or texts as codes and categories."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import StoreDamaged
from adaptive_sampler.memory.keys import KeyMap

TEXT = "text"
KINDS = (TEXT, "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
KINDS += ("float16", "float32", "float64")

_AT_ONCE = 1 << 16  # rows that are looked at at a time

Read = Callable[[Sequence[tuple[str, int]]], Iterable[np.ndarray | None]]
"""(array, chunk number) of some chunks -> the bytes of each, in order; None: there is none."""


class UserColumn:
    """The values of rows 0 … n − 1, which never change. What is on disk is read when it is needed.

    `kind`: "text", or the dtype of the numbers, one of `KINDS`. Texts are kept as `codes`, (n,) of the smallest unsigned dtype:
    the positions of the rows' texts in `categories`, which come in the order in which rows have them first.
    """

    def __init__(
        self,
        kind: str,
        n: int,
        values: np.ndarray | None = None,
        categories: KeyMap | None = None,
        read: Read | None = None,
    ) -> None:
        self.kind, self.n = kind, n
        self._values, self._categories, self._read = values, categories, read
        self._chunk = 0

    @classmethod
    def of_codes(cls, codes: np.ndarray, categories: KeyMap) -> "UserColumn":
        """Texts. `codes`, (n,) integers, may come in any order, and some categories may have no row."""
        first = np.full(len(categories), len(codes))  # row of each; none: behind all rows
        for stop in range(len(codes), 0, -_AT_ONCE):
            rows = np.arange(max(stop - _AT_ONCE, 0), stop)[
                ::-1
            ]  # from behind: of equal ones, the last assignment stays
            first[codes[rows]] = rows
        order = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(codes))]
        place = np.empty(len(categories), _code_dtype(len(order)))
        place[order] = np.arange(len(order))
        if not np.array_equal(order, np.arange(len(categories))):
            categories = categories.at(order)
        as_they_are = codes.dtype == place.dtype and np.array_equal(place, np.arange(len(place)))
        return cls(TEXT, len(codes), codes if as_they_are else place[codes], categories)

    @classmethod
    def on_disk(cls, kind: str, n: int, chunk: int, read: Read) -> "UserColumn":
        """A column of a version, in chunks of `chunk` rows."""
        column = cls(kind, n, read=read)
        column._chunk = chunk
        return column

    # -- reading --------------------------------------------------------------------------------------------------------

    @property
    def is_text(self) -> bool:
        """Whether the values are texts."""
        return self.kind == TEXT

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the numbers, or of the codes."""
        return _code_dtype(len(self.categories)) if self.is_text else np.dtype(self.kind)

    @property
    def categories(self) -> KeyMap:
        """The different texts. Raises `StoreDamaged` if what is on disk are none."""
        if self._categories is None:
            assert self._read is not None
            found = self._read([(name, 0) for name in KeyMap.ARRAYS])
            text, ends = (np.empty(0, np.uint8) if octets is None else octets for octets in found)
            try:
                self._categories = KeyMap.restored(text, ends, len(ends) // 8)
            except (ValueError, IndexError) as error:
                raise _damaged("its texts do not fit together") from error
        return self._categories

    @property
    def values(self) -> np.ndarray:
        """The numbers, or the codes of the texts, (n,). Raises `StoreDamaged` if what is on disk are none."""
        if self._values is None:
            values = self._from_disk(self.dtype.newbyteorder("<"))
            if self.is_text and values.max() >= len(self.categories):
                raise _damaged(f"code {values.max()} stands for none of its {len(self.categories)} texts")
            self._values = values
        return self._values

    def _from_disk(self, dtype: np.dtype) -> np.ndarray:
        assert self._read is not None
        name, found = self.arrays[0], []
        chunks = range(-(-self.n // self._chunk))
        for index, octets in enumerate(self._read([(name, index) for index in chunks])):
            if (
                octets is None
                or len(octets) != self._chunk * dtype.itemsize
                or (dtype.kind == "b" and octets.max() > 1)
            ):
                raise _damaged(f"chunk {index} of its {name} is none")
            found.append(octets.view(dtype))
        return (found[0] if len(found) == 1 else np.concatenate(found))[: self.n]

    def value(self, row: int) -> Any:
        """The value of one row, as Python has it."""
        return self.categories.key(int(self.values[row])) if self.is_text else self.values[row].item()

    def texts(self) -> np.ndarray:
        """The texts, (n,) objects: each category is one `str` that its rows share, so that a row takes eight bytes."""
        each = np.empty(len(self.categories), object)
        each[:] = self.categories.texts()
        return np.asarray(each[self.values])

    def read(self) -> np.ndarray:
        """The values as a user sees them, (n,), read-only."""
        array = self.texts() if self.is_text else self.values.view()
        array.setflags(write=False)
        return array

    # -- on disk --------------------------------------------------------------------------------------------------------

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays that it is kept in; the first has a value for each row."""
        return ("codes", *KeyMap.ARRAYS) if self.is_text else ("values",)

    def objects(self, chunk: int) -> list[tuple[str, int]]:
        """The chunks that it is kept in, as (array, chunk number), if a chunk has `chunk` rows."""
        first, *others = self.arrays
        return [(first, index) for index in range(-(-self.n // chunk))] + [(name, 0) for name in others]

    def parts(self, array: str, index: int, chunk: int) -> list[np.ndarray]:
        """What such a chunk holds: arrays that lie one behind the other in it. The last one is filled up with zeros."""
        if array != self.arrays[0]:
            return [self.categories.arrays()[array]]
        part = self.values[index * chunk : (index + 1) * chunk]
        return [part] + ([np.zeros(chunk - len(part), part.dtype)] if len(part) < chunk else [])

    def committed(self, chunk: int, read: Read) -> None:
        """Note that it is on disk in a new version; the one that it was read from until now may be dropped."""
        self._chunk, self._read = chunk, read

    # -- several --------------------------------------------------------------------------------------------------------

    @cached_property
    def digest(self) -> int:
        """A checksum of kind and values: columns that are the same have equal digests."""
        texts = [*self.categories.arrays().values()] if self.is_text else []
        return checksum([f"{self.kind} {self.n} ".encode(), self.values, *texts])

    def same(self, other: "UserColumn") -> bool:
        """Whether the other one has the same kind and values, to the bit."""
        if (self.kind, self.n) != (other.kind, other.n) or not _equal(self.values, other.values):
            return False
        return not self.is_text or self.categories.first_difference(other.categories) is None

    def first_difference(self, other: "UserColumn") -> int | None:
        """The first row whose values differ, of two columns with as many rows; None if there is none. NaN is equal to NaN.

        Numbers of different dtypes may be equal; a text, a number and a truth value never are.
        """
        if _family(self.kind) != _family(other.kind):
            return 0
        mine, theirs = self.values, other.values
        if self.is_text:
            theirs = self.categories.find(other.categories)[theirs]
        differ = (mine != theirs) & ~((mine != mine) & (theirs != theirs))
        return int(differ.argmax()) if differ.any() else None

    def at(self, rows: np.ndarray) -> "UserColumn":
        """A column whose row i has the value of row `rows[i]` of this one."""
        values = self.values[rows]
        return (
            UserColumn.of_codes(values, self.categories) if self.is_text else UserColumn(self.kind, len(values), values)
        )


def _code_dtype(categories: int) -> np.dtype:
    return np.min_scalar_type(max(categories - 1, 0))


def _family(kind: str) -> str:
    return kind if kind in (TEXT, "bool") else "number"


def _equal(mine: np.ndarray, theirs: np.ndarray) -> bool:
    octets = f"V{mine.itemsize}"
    return np.array_equal(mine.view(octets), theirs.view(octets)) if mine.itemsize == theirs.itemsize else False


def _damaged(what: str) -> StoreDamaged:
    return StoreDamaged(f"a column of the user's own is not as it was committed: {what}. Open another version.")
