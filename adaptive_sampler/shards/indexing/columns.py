"""The columns of an index as uncompressed Zarr arrays: written into a version, and read chunk by chunk, each checked once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.checks import is_whole
from adaptive_sampler.errors import StoreDamaged
from adaptive_sampler.scoring.base import Column
from adaptive_sampler.storage.generation import GenerationWriter, Manifest
from adaptive_sampler.storage.layout import Array, zarr_objects
from adaptive_sampler.storage.versions import Versions

CHUNK = 1 << 20  # elements per chunk; with fewer than 256 Ki, the cost of a file per chunk becomes noticeable

# Column -> the dtypes that it may have, and what it holds. Those of members take four bytes where all values fit.
KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "shard_starts": (("int64",), "the first row of each shard, then the number of all rows"),
    "offsets": (("int64",), "per row: where in its shard the body of its first member begins"),
    "layout": (("uint32",), "per row: the number of its tuple of part names in the manifest's `layouts`"),
    "member_ends": (("int64",), "per row: the number of members up to its last"),
    "starts": (("int64", "uint32"), "per member: where its body begins, counted from its row's offset"),
    "sizes": (("int64", "uint32"), "per member: the bytes of its body"),
    "key_ends": (("int64",), "per row: where its key ends in `keys`"),
    "keys": (("uint8",), "the keys in UTF-8, one after another"),
}
ABOUT = {
    "adaptive_sampler": "one version of an index of shards; its URLs and part names are in manifests/, under its number"
}


def put(
    writer: GenerationWriter, columns: Mapping[str, NDArray[Any]], parent: "MappedColumns | None"
) -> dict[str, Any]:
    """Put `columns`, (elements,) each, and share the chunks that are those of `parent`. Returns `shapes` for the manifest.

    The shapes are {column: [dtype, elements, elements per chunk]}.
    """
    shapes: dict[str, Any] = {}
    for name, values in columns.items():
        chunk = min(CHUNK, max(len(values), 1))
        shapes[name] = [values.dtype.name, len(values), chunk]
        same = parent is not None and parent.shapes[name][::2] == (values.dtype.name, chunk)
        for number in range(-(-len(values) // chunk)):
            part = values[number * chunk : (number + 1) * chunk]
            missing = np.zeros(chunk - len(part), values.dtype)  # Zarr's chunks are of one length
            held = parent.held(name, number) if same and parent is not None else None
            if held is not None and np.array_equal(held[: len(part)], part) and not held[len(part) :].any():
                writer.share(f"{name}/c/{number}")
            else:
                writer.put(f"{name}/c/{number}", [_little(part), missing] if len(missing) else [_little(part)])
    arrays = {name: Array(n, chunk, Column(dtype, 0), KINDS[name][1]) for name, (dtype, n, chunk) in shapes.items()}
    for name, data in zarr_objects(ABOUT, {}, arrays).items():
        writer.put(name, [data])
    return shapes


def _little(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


class MappedColumns:
    """The columns of one version. A chunk is mapped, and held against its checksum, when it is first used.

    shapes: column -> (dtype, elements, elements per chunk).
    """

    def __init__(self, versions: Versions, manifest: Manifest) -> None:
        self._versions, self._manifest = versions, manifest
        self.shapes = {name: _shape(name, manifest.meta["columns"][name]) for name in KINDS}
        self._chunks: dict[tuple[str, int], NDArray[Any]] = {}

    def length(self, name: str) -> int:
        """How many elements the column has."""
        return self.shapes[name][1]

    def bytes(self, name: str) -> int:
        """How many bytes the column's elements take."""
        dtype, length, _ = self.shapes[name]
        return np.dtype(dtype).itemsize * length

    def __call__(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Elements start … stop − 1 of a column; stop=None: to its end.

        A view of the mapped file if they lie in one chunk, otherwise a copy. Raises `StoreDamaged` if a chunk is not what
        was committed, and for elements that the column does not have.
        """
        dtype, length, chunk = self.shapes[name]
        stop = length if stop is None else stop
        if stop <= start:
            return np.zeros(0, dtype)
        if start < 0 or stop > length:
            raise self.damaged(f"{name} has {length} elements, of which {start} … {stop - 1} are wanted")
        numbers = range(start // chunk, (stop - 1) // chunk + 1)
        pieces = [
            part[max(start - number * chunk, 0) : stop - number * chunk]
            for number, part in zip(numbers, self._held(name, numbers), strict=True)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def held(self, name: str, number: int) -> NDArray[Any] | None:
        """One chunk of a column; None if the column has not so many."""
        return self._held(name, [number])[0] if number * self.shapes[name][2] < self.length(name) else None

    def damaged(self, what: str) -> StoreDamaged:
        """The error for columns that do not fit one another."""
        return StoreDamaged(
            f"{self._versions.where}: version {self._manifest.version} of this index contradicts itself: {what}. Build it "
            "into another folder, from the shards."
        )

    def _held(self, name: str, numbers: Sequence[int]) -> list[NDArray[Any]]:
        """Chunks of a column, which are read if they were not used before."""
        new = [number for number in numbers if (name, number) not in self._chunks]
        if new:
            self._read(name, new)
        return [self._chunks[name, number] for number in numbers]

    def _read(self, name: str, numbers: Sequence[int]) -> None:
        dtype, _, chunk = self.shapes[name]
        try:
            read = list(self._versions.read_all(self._manifest, [f"{name}/c/{number}" for number in numbers]))
        except StoreDamaged as error:
            raise StoreDamaged(
                f"{error} An index can also be built anew from its shards, in another folder."
            ) from error
        for number, data in zip(numbers, read, strict=True):
            if data is None or len(data) != chunk * np.dtype(dtype).itemsize:
                raise self.damaged(f"chunk {number} of {name} is no {chunk} elements of {dtype}")
            self._chunks[name, number] = data.view(np.dtype(dtype).newbyteorder("<"))


def _shape(name: str, said: Any) -> tuple[str, int, int]:
    """(dtype, elements, elements per chunk), as a manifest has them. Raises ValueError if they are no such."""
    dtype, length, chunk = said
    if dtype not in KINDS[name][0] or not is_whole(length) or not is_whole(chunk, 1):
        raise ValueError(f"column {name} is {said!r}")
    return dtype, length, chunk
