"""What names a line past one partition: its key, a text, or its row number; and the hashes of these."""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from adaptive_sampler.kernels import tally
from adaptive_sampler.kernels.identity import Identity, KeyIdentity, RowIdentity
from adaptive_sampler.tables.arrow import columns as arrow

_NO_TEXT = np.empty(0, np.uint8), np.empty(0, np.int64)


class LineNames(Protocol):
    """The names of some lines."""

    def __len__(self) -> int:
        """How many lines."""

    def hashes(self, start: np.uint64, positions: np.ndarray | None = None) -> np.ndarray:
        """The hash of each line, or of those at `positions`, (m,) uint64: as a store hashes its rows."""

    def identity(self, positions: np.ndarray) -> Identity:
        """What names the lines at these positions, for kernels; it does not order names of equal hash."""

    def unseeded(self) -> np.ndarray:
        """A hash of each name, (lines,) uint64, that no seed changes."""

    def at(self, position: int) -> Any:
        """The name of a line as it is ordered among names of equal hash: its UTF-8 bytes, or the number."""

    def column(self, positions: np.ndarray) -> Any:
        """The names of some lines as an Arrow array."""


class TextNames:
    """Texts, as a large_string array without nulls."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def hashes(self, start: np.uint64, positions: np.ndarray | None = None) -> np.ndarray:
        return (KeyIdentity(self.unseeded(), *_NO_TEXT) if positions is None else self.identity(positions)).hashes(
            start
        )

    def identity(self, positions: np.ndarray) -> Identity:
        return KeyIdentity(self._hashed(self._array.take(pa.array(positions))), *_NO_TEXT)

    def unseeded(self) -> np.ndarray:
        return self._hashed(self._array)

    def at(self, position: int) -> bytes:
        text: str = self._array[position].as_py()
        return text.encode()

    def column(self, positions: np.ndarray) -> Any:
        return self._array.take(pa.array(positions))

    def _hashed(self, array: Any) -> np.ndarray:
        if not len(array):
            return np.empty(0, np.uint64)
        _, offsets, text = array.buffers()
        borders = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        octets = np.frombuffer(text, np.uint8) if text is not None and text.size else np.empty(0, np.uint8)
        hashes: np.ndarray = tally.hash_between(octets, borders)
        return hashes


class NumberNames:
    """Row numbers, (lines,) int64."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def hashes(self, start: np.uint64, positions: np.ndarray | None = None) -> np.ndarray:
        return self.identity(slice(None) if positions is None else positions).hashes(start)

    def identity(self, positions: Any) -> Identity:
        rows = self._rows[positions]
        return RowIdentity(len(rows), rows)

    def unseeded(self) -> np.ndarray:
        return KeyIdentity(self._rows.view(np.uint64), *_NO_TEXT).hashes(np.uint64(0))

    def at(self, position: int) -> int:
        return int(self._rows[position])

    def column(self, positions: np.ndarray) -> Any:
        return pa.array(self._rows[positions])


def _names(array: Any) -> TextNames:
    """Texts, checked as `KEYS` checks them."""
    return TextNames(arrow.texts_of(array))


def _numbers(array: Any) -> NumberNames:
    rows = arrow.ROW.convert(array)
    if len(rows) and rows.min() < 0:
        position = int(rows.argmin())
        raise arrow.Fault(
            position, f"{rows[position]}: row numbers are 0 or more. Or give a column of texts as the key."
        )
    return NumberNames(np.ascontiguousarray(rows))


NAMES = arrow.ColumnKind("keys are text", pa.string(), arrow.KEYS.fits, _names)
NUMBERS = arrow.ColumnKind("row numbers are integers", pa.int64(), arrow.ROW.fits, _numbers)
