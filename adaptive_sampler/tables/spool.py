"""Rows and values of a table's lines, kept until all of them are checked: in a temporary file if they are many."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Self

import numpy as np

IN_MEMORY = 1 << 26  # bytes that are kept in memory


class Spool:
    """Batches of rows and of values, which are put in one after the other and come out again in this order."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed when this is
        self._batches: list[tuple[int, int, int | None]] = []  # scores, lines, the first row if all follow it in order

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):  # of what found no room before
            self._file.close()

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Keep a batch: `rows`, (batch,) int64, and `values`, (scores, batch) float32. Raises OSError where there is no room."""
        first = int(rows[0]) if len(rows) else 0
        in_order = np.array_equal(rows, np.arange(first, first + len(rows)))
        try:
            for array in (values,) if in_order else (values, rows):
                self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()  # so that all that fails here is told here
        except OSError as error:
            if error.errno is None:  # not the system's: a handler of signals may raise TimeoutError
                raise
            raise OSError(
                error.errno,
                f"{error.strerror}: {_folder()} keeps the lines of a table until all are checked, 4 bytes for each "
                "value and 8 for each row. Make room, or name another folder by the environment variable TMPDIR",
            ) from error
        self._batches.append((*values.shape, first if in_order else None))

    def check(self) -> None:
        """Read all once, so that what cannot be read is told before anything is done with a part. Raises OSError for it."""
        for _ in self.batches():
            pass

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All batches, in the order in which they were put in."""
        self._file.seek(0)
        for scores, lines, first in self._batches:
            values = self._read(np.empty((scores, lines), np.float32))
            yield self._read(np.empty(lines, np.int64)) if first is None else np.arange(first, first + lines), values

    def _read(self, array: np.ndarray) -> np.ndarray:
        octets = array.reshape(-1).view(np.uint8).data
        if self._file.readinto(octets) != len(octets):
            raise OSError(f"{_folder()}: a temporary file is shorter than what was written to it")
        return array


def _folder() -> str:
    """Where temporary files are; in words if there is no such folder."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return "the folder for temporary files"
