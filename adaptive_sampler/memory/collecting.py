"""Keys and columns of the user's own that come some lines at a time: put in place at once, so that little is held twice."""

import numpy as np

from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.user_column import TEXT, UserColumn

_SPARE = 1.02  # the memory of keys is made so much larger than those that are there let expect


class CollectedKeys:
    """The keys of `n` lines, which come in the order of lines."""

    def __init__(self, n: int) -> None:
        self._text, self._ends = np.empty(0, np.uint8), np.empty(n, np.int64)
        self._lines = self._size = 0

    def add(self, keys: KeyMap) -> None:
        """Add the keys of the next lines. Some may come twice: `KeyMap.twice` of all tells."""
        text, ends = keys.arrays().values()
        self._ends[self._lines : self._lines + len(ends)] = ends + self._size
        self._lines, start, self._size = self._lines + len(ends), self._size, self._size + len(text)
        if self._size > len(self._text):  # the system moves no byte for this, it maps the pages elsewhere
            expected = self._size * _SPARE * len(self._ends) / self._lines
            self._text.resize(max(self._size, int(expected)), refcheck=False)
        self._text[start : self._size] = text

    def whole(self) -> KeyMap:
        """The keys of all lines."""
        self._text.resize(self._size, refcheck=False)
        return KeyMap(self._text, self._ends[: self._lines])


class CollectedColumn:
    """A column of `n` rows, whose values come in any order, in parts of one kind."""

    def __init__(self, n: int) -> None:
        self._n, self._kind = n, TEXT
        self._values = np.empty(0, np.uint8)
        self._codes: dict[str, int] = {}

    def put(self, rows: np.ndarray | slice, part: UserColumn) -> None:
        """Give `rows` the values of `part`, in its order."""
        if not len(self._values):
            self._kind = part.kind
            self._values = np.empty(self._n, np.uint8 if part.is_text else part.dtype)
        self._values[rows] = self._coded(part) if part.is_text else part.values

    def _coded(self, part: UserColumn) -> np.ndarray:
        """The codes of a part's texts among all texts so far, which may need wider ones."""
        codes = self._codes
        place = np.array([codes.setdefault(text, len(codes)) for text in part.categories.texts()], np.int64)
        wide = np.min_scalar_type(max(len(codes) - 1, 0))
        if wide.itemsize > self._values.itemsize:
            self._values = self._values.astype(wide)
        return np.asarray(place[part.values])

    def whole(self) -> UserColumn:
        """The column, once every row has a value."""
        if self._kind == TEXT:
            return UserColumn.of_codes(self._values, KeyMap.of(self._codes))
        return UserColumn(self._kind, self._n, self._values)
