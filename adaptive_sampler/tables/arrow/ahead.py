"""Read the lines of a table while those before them are used."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from adaptive_sampler.tables.arrow.columns import Chunk, ColumnKind, read
from adaptive_sampler.tables.arrow.sources import Piece


def read_ahead(found: Sequence[Piece], kinds: Mapping[str, ColumnKind]) -> Iterator[Chunk]:
    """As `columns.read`, by a thread of its own, which is a chunk ahead: PyArrow and NumPy mostly do without Python's lock."""
    chunks = read(found, kinds)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = thread.submit(next, chunks, None)
            yield chunk
