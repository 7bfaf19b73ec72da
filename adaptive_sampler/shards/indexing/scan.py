"""Reads the headers of one shard, and makes the table of its samples."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.shards.errors import ShardDamaged
from adaptive_sampler.shards.indexing.grouping import Sample, group
from adaptive_sampler.shards.indexing.tar import walk
from adaptive_sampler.shards.sources.access import Access
from adaptive_sampler.shards.sources.base import Source

Ints = NDArray[np.int64]


@dataclass
class ShardTable:
    """The `n` samples of one shard, in the shard's order, with their `m` members.

    stamp: the shard's stamp when it was scanned.
    layouts: the different tuples of part names. layout: (n,) uint32, the number in `layouts` of each sample's tuple.
    offsets: (n,) the first byte of the body of each sample's first member.
    starts, sizes: (m,) the first byte of each member's body, counted from its sample's offset, and its size in bytes.
    keys: the samples' keys in UTF-8, one after another. key_lengths: (n,) the bytes of each key.
    errors: damage that a handler has to decide about.
    """

    url: str
    stamp: str
    layouts: list[tuple[str, ...]]
    layout: NDArray[Any]
    offsets: Ints
    starts: NDArray[Any]
    sizes: NDArray[Any]
    keys: bytes
    key_lengths: Ints
    errors: list[Exception] = field(default_factory=list)


def scan(url: str, access: Access) -> ShardTable:
    """Read the headers of the shard at `url`. Damage is noted in the table's `errors`.

    Raises ShardMissing if the shard cannot be opened, and ShardUnsupported for a compressed or sparse one.
    """
    source = access.open(url)
    errors: list[Exception] = []
    layouts: dict[tuple[str, ...], int] = {}
    layout: list[int] = []
    offsets: list[int] = []
    keys: list[bytes] = []
    places: list[tuple[int, int]] = []
    try:
        for key, parts in _samples(url, source, errors, access.header_bytes):
            keys.append(key.encode("utf-8", "surrogateescape"))
            layout.append(layouts.setdefault(tuple(parts), len(layouts)))
            # A sample whose members were all left out has no parts: it gets the offset of the sample before it.
            offsets.append(next(iter(parts.values()), (offsets[-1] if offsets else 0, 0))[0])
            places += parts.values()
    finally:
        source.close()
    widths = np.array([len(names) for names in layouts], np.int64)
    members = np.array(places, np.int64).reshape(-1, 2)
    base = np.repeat(np.array(offsets, np.int64), widths[layout] if layout else 0)
    return ShardTable(
        url=url,
        stamp=source.stamp,
        layouts=list(layouts),
        layout=np.array(layout, np.uint32),
        offsets=np.array(offsets, np.int64),
        starts=members[:, 0] - base,
        sizes=members[:, 1].copy(),
        keys=b"".join(keys),
        key_lengths=np.array([len(key) for key in keys], np.int64),
        errors=errors,
    )


def _samples(url: str, source: Source, errors: list[Exception], header_bytes: int) -> Iterator[Sample]:
    def note(error: Exception) -> bool:
        errors.append(error)
        return True

    try:
        yield from group(walk(source.read, url, source.size, source.mapped(), header_bytes), url, note)
    except ShardDamaged as error:
        errors.append(error)
