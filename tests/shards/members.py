"""The members of an archive as the package's walk finds them, and as Python's tarfile does."""

import tarfile
from pathlib import Path

from adaptive_sampler.shards.indexing.tar import Member, Rangeless, walk
from adaptive_sampler.shards.sources.local import LocalSource

Found = list[tuple[str, int, int]]


def walked(path: Path, mapped: bool = True) -> list[Member | Rangeless]:
    """All that the walk finds: files, and what is no range of bytes."""
    source = LocalSource(str(path))
    try:
        memory = source.mapped() if mapped else None
        return list(walk(source.read, str(path), source.size, None if memory is None else lambda _: (memory, 0)))
    finally:
        source.close()


def members(path: Path, mapped: bool = True) -> Found:
    """The name, first byte and size of each file."""
    return [tuple(m) for m in walked(path, mapped) if isinstance(m, Member)]  # type: ignore[misc]  # a Member is such a tuple


def both(path: Path) -> Found:
    """The same, found alike by the kernel and by the walk that needs no memory to be mapped."""
    assert walked(path, mapped=True) == walked(path, mapped=False), "the kernel's walk and its twin differ"
    return members(path)


def by_tarfile(path: Path) -> Found:
    """The name, first byte and size of each file by Python's tarfile."""
    with tarfile.open(path, "r:") as archive:
        return [(m.name, m.offset_data, m.size) for m in archive if m.isreg()]
