"""Stores columns as uncompressed Zarr arrays, so that a process can map the part that it needs."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 1  # the version of the index format
POINTER = "CURRENT"  # the file that names the generation to read
CHUNK = 1 << 20  # elements per chunk; with fewer than 256 Ki, Zarr's cost per chunk becomes noticeable


def write(path: Path, columns: dict[str, NDArray[Any]], attributes: dict[str, Any]) -> None:
    """Write a new Zarr group at `path`: `columns` (1-d) by name, and JSON `attributes`."""
    import zarr  # imported late, here and below: it takes longer than the import of the rest of the package

    group = zarr.create_group(str(path), attributes=attributes)
    with zarr.config.set({"array.write_empty_chunks": True}):
        for name, values in columns.items():
            chunk = min(CHUNK, max(len(values), 1))
            array = group.create_array(
                name, shape=values.shape, dtype=values.dtype, chunks=(chunk,), compressors=None, filters=None
            )
            if len(values):
                array[:] = values


class MappedColumns:
    """The columns of one Zarr group written by `write`, each chunk mapped at its first use."""

    def __init__(self, path: Path) -> None:
        import zarr

        self._path = path
        group = zarr.open_group(str(path), mode="r")
        self.attributes: dict[str, Any] = dict(group.attrs)
        self._arrays = {name: (a.dtype, a.shape[0], a.chunks[0]) for name, a in group.arrays()}
        self._chunks: dict[tuple[str, int], NDArray[Any]] = {}

    def length(self, name: str) -> int:
        """How many elements the column has."""
        return self._arrays[name][1]

    def bytes(self, name: str) -> int:
        """How many bytes the column's elements take."""
        dtype, length, _ = self._arrays[name]
        return int(dtype.itemsize) * length

    def __call__(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Elements start … stop − 1 of a column; stop=None: to its end.

        A view of the mapped file if they lie in one chunk, otherwise a copy.
        """
        dtype, length, chunk = self._arrays[name]
        stop = length if stop is None else min(stop, length)
        if stop <= start:
            return np.zeros(0, dtype)
        pieces = []
        for number in range(start // chunk, (stop - 1) // chunk + 1):
            base = number * chunk
            pieces.append(self._chunk(name, number)[max(start - base, 0) : stop - base])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _chunk(self, name: str, number: int) -> NDArray[Any]:
        found = self._chunks.get((name, number))
        if found is None:
            file = self._path / name / "c" / str(number)
            # A plain array over the mapped memory, because np.memmap itself is four times slower to index.
            found = np.asarray(np.memmap(file, self._arrays[name][0], mode="r"))
            self._chunks[name, number] = found
        return found
