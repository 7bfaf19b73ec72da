"""Samples by their stable names: a sorted table of 64-bit hashes, and the names themselves to tell collisions apart."""

from collections.abc import Iterable, Sequence

import numpy as np

from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.kernels import keys as kernels


class KeyMap:
    """Maps `len(map)` different strings to rows 0 … n − 1.

    In memory: 8 bytes of hash and 4 of order a key (8 above 2³¹ keys), built at the first look-up, beside the names as
    they are kept: their UTF-8 bytes, and where each ends.
    """

    def __init__(self, text: np.ndarray, ends: np.ndarray) -> None:
        self._text, self._ends = text, ends
        self._sorted: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(cls, keys: Iterable[str]) -> "KeyMap":
        """The map of these keys, in the order of rows. Raises `InvalidValue` for a key that comes twice."""
        made = cls(*_pack(list(keys)))
        hashes, order = made._table()
        twice = kernels.first_twice(hashes, order, made._text, made._ends)
        if twice[0] >= 0:
            key = made.key(twice[0])
            raise InvalidValue(f"key {key!r} stands at rows {twice[0]} and {twice[1]}: keys name one row each.")
        return made

    def __len__(self) -> int:
        return len(self._ends)

    def arrays(self) -> dict[str, np.ndarray]:
        """What is kept on disk: the names' UTF-8 bytes, and the end of each, int64."""
        return {"text": self._text, "ends": self._ends}

    def key(self, row: int) -> str:
        """The key of a row."""
        start = self._ends[row - 1] if row else 0
        return self._text[start : self._ends[row]].tobytes().decode()

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """(len(keys),) int64. Raises `UnknownName` for the first unknown key."""
        keys = list(keys)
        text, ends = _pack(keys)
        hashes, order = self._table()
        rows: np.ndarray = kernels.find(kernels.hash_all(text, ends), text, ends, hashes, order, self._text, self._ends)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            raise UnknownName(
                f"key {keys[unknown[0]]!r} (position {unknown[0]}) is not in the store: it names none of its {len(self)} rows. "
                "Is it the key of another dataset? store.grow(n, keys) adds rows."
            )
        return rows

    def grown(self, keys: Iterable[str]) -> "KeyMap":
        """This map with more keys after its own."""
        return KeyMap.of([*(self.key(row) for row in range(len(self))), *keys])

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        if self._sorted is None:
            hashes = kernels.hash_all(self._text, self._ends)
            order = np.argsort(hashes, kind="stable").astype(np.int32 if len(hashes) < 2**31 else np.int64)
            self._sorted = hashes[order], order
        return self._sorted


def _pack(keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    try:
        joined = "\0".join(keys).encode()
        encoded = None if joined.count(b"\0") == len(keys) - 1 else [key.encode() for key in keys]
    except (TypeError, AttributeError, UnicodeEncodeError) as error:
        bad = next(key for key in keys if not isinstance(key, str) or _unencodable(key))
        raise InvalidValue(f"key {bad!r} is no text: keys are strings that UTF-8 can encode. Use str(key).") from error
    if encoded is not None:
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(lengths)
    if not keys:
        return np.zeros(0, np.uint8), np.zeros(0, np.int64)
    text = np.frombuffer(joined, np.uint8)
    stops = np.append(np.flatnonzero(text == 0), len(text))
    return text[text != 0], stops - np.arange(len(keys))


def _unencodable(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return True
    return False
