"""Find samples by their keys: by a sorted table of 64-bit hashes, and by the keys themselves if hashes collide."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from adaptive_sampler.errors import InvalidValue, StoreDamaged, UnknownName
from adaptive_sampler.kernels import keys as kernels
from adaptive_sampler.kernels.identity import KeyIdentity, key_hashes


class HashIndex(NamedTuple):
    """`hashes` in ascending order, the rows that have them (`order`), and where each leading bit pattern begins."""

    hashes: np.ndarray
    order: np.ndarray
    borders: np.ndarray


class KeyMap:
    """Maps `len(map)` different strings to rows 0 … n − 1.

    The table of hashes takes 14 bytes of memory per key (22 with 2³¹ keys or more) and is built at the first look-up. The
    hashes in the order of rows take 8 more once a plan has asked for them. The keys themselves, as UTF-8 bytes with the end
    of each, stay on disk once they are committed, and are memory-mapped.
    """

    ARRAYS = ("text", "ends")

    def __init__(self, text: np.ndarray, ends: np.ndarray, index: HashIndex | None = None) -> None:
        self._text, self._ends, self._index = text, ends, index
        self._hashes: np.ndarray | None = None  # in the order of rows

    @classmethod
    def of(cls, keys: Iterable[str]) -> "KeyMap":
        """The map of these keys, given in the order of rows.

        Raises `InvalidValue` for a key that comes twice, or that is no text.
        """
        return cls(*_pack(list(keys)))._all_different()

    @classmethod
    def restored(cls, text: np.ndarray, ends: np.ndarray, n: int) -> "KeyMap":
        """The map of `n` keys whose `arrays` have these bytes, uint8. Raises `ValueError` if they do not fit together."""
        ends = ends.view("<i8")
        if len(ends) != n or ends[0] < 0 or (ends[1:] <= ends[:-1]).any() or ends[-1] != len(text) - 1:
            raise ValueError("the keys' ends do not fit their text")
        return cls(text, ends)

    def __len__(self) -> int:
        return len(self._ends)

    def arrays(self) -> dict[str, np.ndarray]:
        """What is kept on disk: the UTF-8 bytes of the keys, uint8, and where each ends, (n,) int64."""
        return dict(zip(self.ARRAYS, (self._text, self._ends), strict=True))

    @property
    def nbytes(self) -> int:
        """What looking keys up and planning by them holds in memory, beside the names themselves."""
        return sum(array.nbytes for array in (*self.index, self._hashes) if array is not None)

    @property
    def identity(self) -> KeyIdentity:
        """The keys as the names that plans hash. Keeps the hashes from then on."""
        if self._hashes is None:
            self._hashes = key_hashes(self._text, self._ends)
        return KeyIdentity(self._hashes, self._text, self._ends)

    def key(self, row: int) -> str:
        """The key of a row. Raises `StoreDamaged` if its bytes are no UTF-8."""
        start = self._ends[row - 1] + 1 if row else 0
        try:
            return self._text[start : self._ends[row]].tobytes().decode()
        except UnicodeDecodeError as error:
            raise StoreDamaged(f"the key of row {row} is no UTF-8 ({error}). Open another version.") from error

    def part(self, start: int, stop: int) -> "KeyMap":
        """The keys of rows `start` … `stop` − 1, without a copy."""
        first = self._ends[start - 1] + 1 if start else 0
        stops = self._ends[start:stop]
        return KeyMap(self._text[first : stops[-1] + 1 if len(stops) else first], stops - first)

    def at(self, rows: np.ndarray) -> "KeyMap":
        """The keys of `rows`, (m,) integers, in this order: a copy. They are different ones if the rows are."""
        ends = np.empty(len(rows), np.int64)
        if not len(rows):
            return KeyMap(np.empty(0, np.uint8), ends)
        starts = np.zeros(len(self), np.int64)
        starts[1:] = self._ends[:-1] + 1
        text = np.empty(int((self._ends[rows] - starts[rows]).sum()) + len(rows), np.uint8)
        kernels.pick(self._text, self._ends, rows, text, ends)
        return KeyMap(text, ends)

    def texts(self) -> list[str]:
        """All keys, in the order of rows. Raises as `key` does."""
        if np.count_nonzero(self._text == 0) == len(self):  # no key holds a NUL itself
            with contextlib.suppress(UnicodeDecodeError):
                return self._text.tobytes().decode().split("\0")[:-1]
        return [self.key(row) for row in range(len(self))]

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """The rows of these keys, (len(keys),) int64. Raises `UnknownName` for the first unknown key."""
        keys = list(keys)
        rows = self.places(keys)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            raise UnknownName(
                f"key {keys[unknown[0]]!r} (position {unknown[0]}) is not in the store: it names none of its {len(self)} rows. "
                "Is it the key of another dataset? store.grow(n, keys) adds rows."
            )
        return rows

    def places(self, keys: Sequence[str]) -> np.ndarray:
        """The row of each of these keys, (len(keys),) int64; −1 where the map has none. Raises `InvalidValue` for no text."""
        return self.find(KeyMap(*_pack(list(keys))))

    def find(self, wanted: "KeyMap") -> np.ndarray:
        """The row of each key of `wanted` in this map, (len(wanted),) int64; −1 where it has none. `wanted` may repeat keys."""
        text, ends = wanted._text, wanted._ends
        rows: np.ndarray = kernels.find(key_hashes(text, ends), text, ends, *self.index, self._text, self._ends)
        return rows

    def grown(self, keys: Iterable[str]) -> "KeyMap":
        """A new map of this map's keys, followed by more keys. Raises as `of` does."""
        text, ends = _pack(list(keys))
        new = KeyMap(np.concatenate([self._text, text]), np.concatenate([self._ends, ends + len(self._text)]))
        return new._all_different()

    def first_difference(self, other: "KeyMap") -> int | None:
        """The first row whose keys differ in the two maps, or that only one of them has; None if they are equal."""
        rows = min(len(self), len(other))
        ends = np.flatnonzero(self._ends[:rows] != other._ends[:rows])
        alike = int(ends[0]) if len(ends) else rows  # so many keys have equal lengths in both
        stop = int(self._ends[alike - 1]) if alike else 0
        text = np.flatnonzero(self._text[:stop] != other._text[:stop])
        if len(text):
            return int(np.searchsorted(self._ends, text[0]))
        return None if alike == len(self) == len(other) else alike

    def _all_different(self) -> "KeyMap":
        """This map, after a check: raises `InvalidValue` for a key that comes twice."""
        if twice := self.twice():
            key = self.key(twice[0])
            raise InvalidValue(
                f"key {key!r} stands at rows {twice[0]} and {twice[1]}: a key names one row. Drop one of them."
            )
        return self

    def twice(self) -> tuple[int, int] | None:
        """The first two rows that have the same key; None if all keys are different."""
        first, second = kernels.first_twice(*self.index, self._text, self._ends)
        return None if first < 0 else (int(first), int(second))

    def settle(self, kept: "KeyMap") -> None:
        """Read the keys from the map `kept`, whose arrays are on disk, instead of holding them in memory."""
        self._text, self._ends = kept._text, kept._ends

    @property
    def index(self) -> HashIndex:
        """The table of hashes, which is built when it is first asked for."""
        if self._index is None:
            hashes = key_hashes(self._text, self._ends) if self._hashes is None else self._hashes
            bits = max(len(hashes).bit_length() - 2, 0)  # about four hashes a bucket
            kind = np.int32 if len(hashes) < 2**31 else np.int64
            self._index = HashIndex(np.empty_like(hashes), np.empty(len(hashes), kind), np.zeros(2**bits + 1, kind))
            kernels.index(hashes, np.uint64(63 - bits), *self._index)
        return self._index


def _pack(keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The UTF-8 bytes of the keys, each key followed by a NUL, and the position of each NUL, (len(keys),) int64."""
    try:
        text = np.frombuffer("\0".join([*keys, ""]).encode(), np.uint8)
        ends = np.flatnonzero(text == 0)
        if len(ends) != len(keys):  # a key holds a NUL itself
            ends = np.cumsum([len(key.encode()) + 1 for key in keys]) - 1
    except (TypeError, AttributeError, UnicodeEncodeError) as error:
        bad = next(key for key in keys if not isinstance(key, str) or _unencodable(key))
        raise InvalidValue(f"key {bad!r} is no text: keys are strings that UTF-8 can encode. Use str(key).") from error
    return text, ends


def _unencodable(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return True
    return False
