"""Rows and values of a table's lines, kept until all of them are checked: in a temporary file if they are many."""

import tempfile
from collections.abc import Iterator
from typing import Self

import numpy as np

IN_MEMORY = 1 << 26  # bytes that are kept in memory


class Spool:
    """Batches of rows and of values, which are put in one after the other and come out again in this order."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)
        self._shapes: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Keep a batch: `rows`, (batch,) int64, and `values`, (scores, batch) float32. Raises OSError where there is no room."""
        try:
            for array in (rows, values):
                self._file.write(np.ascontiguousarray(array).data)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: {tempfile.gettempdir()} keeps the lines of a table until all are checked, 8 bytes for each "
                "and 4 for each value. Make room, or name another folder by the environment variable TMPDIR",
            ) from error
        self._shapes.append(values.shape)

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All batches, in the order in which they were put in."""
        self._file.seek(0)
        for shape in self._shapes:
            batch = np.empty(shape[1], np.int64), np.empty(shape, np.float32)
            for array in batch:
                if array.nbytes and self._file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:
                    raise OSError(f"{tempfile.gettempdir()}: a temporary file is shorter than what was written to it")
            yield batch
