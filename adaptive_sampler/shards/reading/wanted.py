"""The wanted samples of one shard: where their bytes lie, and how a sample is cut out of them."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.shards.errors import ShardDamaged
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.indexing.tar import aligned, header_is, name_in
from adaptive_sampler.shards.reading.settings import ShardReading
from adaptive_sampler.shards.sources.access import BLOCK

Ints = NDArray[np.int64]
Raw = dict[str, Any]
"""A raw WebDataset sample: __key__, __url__, __index__ (its row) and the parts as bytes."""


class Bytes(Protocol):
    """Something whose slices are bytes."""

    def __getitem__(self, part: slice, /) -> bytes: ...


class Wanted:
    """The samples `rows` (ascending, each once) of one shard, and how they are cut out of its bytes.

    begin, stop: (rows,) a sample is bytes begin … stop − 1 of the shard, with its first header if that is verified.
    """

    def __init__(self, index: ShardIndex, shard: int, rows: Ints, reading: ShardReading) -> None:
        self.url, self.rows, self._verify = index.urls[shard], rows.tolist(), reading.verify
        self._index, self._shard = index, shard
        self._extents = extents = index.extents(shard, rows)
        self._each = list(zip(extents.first, extents.names, extents.keys, extents.heads, self.rows, strict=True))
        self.begin: Ints = np.maximum(extents.offset - (BLOCK if reading.verify else 0), 0)
        # A sample without parts has the offset of the sample before it: `stop` must not fall back to that offset.
        self.stop: Ints = np.maximum.accumulate(extents.stop)

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, nth: int, data: Bytes, base: int) -> Raw:
        """Cut the nth sample out of `data`, whose first byte is byte `base` of the shard.

        Raises ShardDamaged if the sample's header is not where the index says, or if its bytes end too early.
        """
        member, names, key, head, row = self._each[nth]
        starts, sizes = self._extents.start, self._extents.size
        if self._verify and names:
            at = starts[member] - base
            header = data[at - BLOCK : at]
            if not (header.startswith(head) and header_is(header, sizes[member])):
                self._look_closer(nth, member, header)
        sample: Raw = {"__key__": key, "__url__": self.url, "__index__": row}
        for name in names:
            at, size = starts[member] - base, sizes[member]
            part = sample[name] = data[at : at + size]
            if len(part) != size:
                raise self._cut_off(nth, starts[member] + len(part))
            member += 1
        return sample

    def kept(self, nth: int) -> int:
        """The bytes of the nth sample's parts."""
        first = self._extents.first[nth]
        return sum(self._extents.size[first : first + len(self._extents.names[nth])])

    def _look_closer(self, nth: int, member: int, header: bytes) -> None:
        """Raise ShardDamaged unless `header` is one of this member, or of an extended header that may have named it otherwise."""
        size, start = self._extents.size[member], self._extents.start[member]
        if len(header) < BLOCK <= start:
            raise self._cut_off(nth, start - BLOCK + len(header))
        named = header.startswith(self._extents.heads[nth])
        if not header_is(header, size) or not (named or aligned(header)):
            raise self._moved(nth, member, f"no header of a member of {size} bytes stands before it")
        if not named:
            self._check_name(nth, member, header)

    def _check_name(self, nth: int, member: int, header: bytes) -> None:
        """Raise ShardDamaged if `header` names another member, unless an extended header may have named it otherwise."""
        key, part = self._extents.keys[nth], self._extents.names[nth][0]
        name = name_in(header)
        if name.startswith(key + ".") and name[len(key) + 1 :].lower() == part:
            return
        row, end = self.rows[nth], 0
        if row > self._index.starts[self._shard]:
            end = int(self._index.extents(self._shard, np.array([row - 1])).stop[0])
        if self._extents.start[member] == -(-end // BLOCK) * BLOCK + BLOCK:
            raise self._moved(nth, member, f"the header before it is of {name!r}")

    def _moved(self, nth: int, member: int, why: str) -> ShardDamaged:
        start = self._extents.start[member]
        return ShardDamaged(
            f"{self.url}: {self._called(nth)} is not at byte {start}: {why}. Index the shards anew, in another folder.",
            start,
        )

    def _cut_off(self, nth: int, at: int) -> ShardDamaged:
        return ShardDamaged(f"{self.url}: cut off within {self._called(nth)}. Fetch the shard again.", at)

    def _called(self, nth: int) -> str:
        return f"sample {self._extents.keys[nth]!r} (row {self.rows[nth]})"
