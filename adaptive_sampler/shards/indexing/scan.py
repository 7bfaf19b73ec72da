"""Reads the headers of one shard, and makes the table of its samples."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.shards.errors import ShardDamaged, ShardUnsupported
from adaptive_sampler.shards.indexing.grouping import Sample, group
from adaptive_sampler.shards.indexing.tar import Memory, Rangeless, Read, walk
from adaptive_sampler.shards.sources.access import BLOCK, HEADER_BYTES, Access
from adaptive_sampler.shards.sources.ahead import Ahead
from adaptive_sampler.shards.sources.base import Source

Ints = NDArray[np.int64]


class Flaw(NamedTuple):
    """Something wrong with a shard that a handler has to decide about.

    before: the samples of the shard that come before it, which are kept by a handler that stops.
    """

    before: int
    error: Exception


@dataclass
class ShardTable:
    """The `n` samples of one shard, in the shard's order, with their `m` members.

    stamp: the shard's stamp when it was scanned.
    layouts: the different tuples of part names. layout: (n,) uint32, the number in `layouts` of each sample's tuple.
    offsets: (n,) the first byte of the body of each sample's first member.
    starts, sizes: (m,) the first byte of each member's body, counted from its sample's offset, and its size in bytes.
    keys: the samples' keys in UTF-8, one after another. key_lengths: (n,) the bytes of each key.
    flaws: what a handler has to decide about, in the order of the shard.
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
    flaws: list[Flaw] = field(default_factory=list)

    def first(self, samples: int) -> "ShardTable":
        """The table of the first `samples` samples alone."""
        widths = np.array([len(names) for names in self.layouts], np.int64)
        members = int(widths[self.layout[:samples]].sum()) if samples else 0
        return replace(
            self,
            layout=self.layout[:samples],
            offsets=self.offsets[:samples],
            starts=self.starts[:members],
            sizes=self.sizes[:members],
            keys=self.keys[: int(self.key_lengths[:samples].sum())],
            key_lengths=self.key_lengths[:samples],
        )


def scan(url: str, access: Access) -> ShardTable:
    """Read the headers of the shard at `url`. What is wrong with it is noted in the table's `flaws`.

    Raises ShardMissing if the shard cannot be opened, and ShardUnsupported for a compressed one.
    """
    with closing(access.open(url)) as source:
        return scanned(url, source, access)


def scanned(url: str, source: Source, access: Access) -> ShardTable:
    """The table of the shard at `url`, which `source` has open. Raises ShardUnsupported for a compressed one."""
    flaws: list[Flaw] = []
    keys: list[bytes] = []
    table = table_of(url, source, _whole(url, source, keys, flaws, access.header_bytes), keys, flaws)
    if not keys and not flaws and source.read(0, BLOCK).strip(b"\0"):
        flaws.append(Flaw(0, _no_samples(url)))
    return table


def table_of(url: str, source: Source, samples: Iterable[Sample], keys: list[bytes], flaws: list[Flaw]) -> ShardTable:
    """The table of `samples`, of the shard that `source` is open at.

    keys: an empty list, which gets the key of each sample as it is taken; so its length tells `samples` how far that is.
    """
    layouts: dict[tuple[str, ...], int] = {}
    layout: list[int] = []
    offsets: list[int] = []
    places: list[tuple[int, int]] = []
    for key, parts, _ in samples:
        keys.append(key.encode("utf-8", "surrogateescape"))
        layout.append(layouts.setdefault(tuple(parts), len(layouts)))
        # A sample whose members were all left out has no parts: it gets the offset of the sample before it.
        offsets.append(next(iter(parts.values()), (offsets[-1] if offsets else 0, 0))[0])
        places += parts.values()
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
        flaws=flaws,
    )


def _whole(
    url: str, source: Source, keys: list[bytes], flaws: list[Flaw], header_bytes: int | None
) -> Iterator[Sample]:
    """Yield the samples of which every member is a range of the shard, and note what is wrong with the others in `flaws`.

    keys: what the caller has taken so far; its length says where in the shard a flaw is.
    """
    rangeless: list[tuple[int, Rangeless]] = []
    behind: list[ShardDamaged] = []
    try:
        read, memory = _reading(source, header_bytes)
        members = walk(read, url, source.size, memory, header_bytes or HEADER_BYTES, behind.append)
        for sample in group(members, url, lambda error: flaws.append(Flaw(len(keys), error))):
            if sample.rangeless is None:
                yield sample
            else:
                rangeless.append((len(keys), sample.rangeless))
    except ShardDamaged as error:
        behind.append(error)
    flaws += _left_out(url, rangeless)
    flaws.sort(key=lambda flaw: flaw.before)
    flaws += [Flaw(len(keys), error) for error in behind]


def _reading(source: Source, header_bytes: int | None) -> tuple[Read, Memory | None]:
    """How a shard's headers are read, and what of it is in memory."""
    if source.parallel and header_bytes is None:
        ahead = Ahead(source)
        return ahead.read, ahead.memory
    mapped = source.mapped()
    return source.read, None if mapped is None else lambda _: (mapped, 0)


def _left_out(url: str, rangeless: list[tuple[int, Rangeless]]) -> Iterator[Flaw]:
    """One flaw for each remedy, however many samples need it: handlers may warn, and wait, at each."""
    for remedy in dict.fromkeys(member.why.remedy for _, member in rangeless):
        its = [(before, member) for before, member in rangeless if member.why.remedy == remedy]
        before, (name, offset, why) = its[0]
        yield Flaw(
            before,
            ShardUnsupported(
                f"{url}: member {name!r} at byte {offset} is {why.what}, so its sample cannot be read alone; "
                f"{len(its)} samples have such members. {remedy}; a handler that returns True leaves these samples out."
            ),
        )


def _no_samples(url: str) -> ShardUnsupported:
    return ShardUnsupported(
        f"{url}: holds no sample: none of its members is a file with a name like key.part. Pack files of such names; a "
        "handler that returns True goes on without it."
    )
