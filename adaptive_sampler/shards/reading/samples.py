"""Reads samples of local shards only when they are delivered: until then the system's page cache holds their bytes."""

from collections import OrderedDict

import numpy as np

from adaptive_sampler.shards.errors import ShardError
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.reading.settings import ShardReading, opened
from adaptive_sampler.shards.reading.wanted import Raw, Wanted
from adaptive_sampler.shards.sources.local import LocalSource

_OPEN = 32  # files held open; if the shuffling buffer spans more shards, some are opened again
_LARGE = 48 << 10  # bytes; the parts of a sample at least this large are read one by one, which saves a copy
_AHEAD_GAP = 128 << 10  # bytes; gaps of up to this size between samples are prefetched with them


class OpenFiles:
    """The local shards of an index that are being read; the files opened last stay open."""

    def __init__(self, index: ShardIndex, reading: ShardReading) -> None:
        self._index, self._reading = index, reading
        self._sources: OrderedDict[int, LocalSource] = OrderedDict()

    def get(self, shard: int) -> LocalSource:
        """The open file of `shard`. Raises ShardMissing or ShardChanged if it must be opened again and that fails."""
        if shard not in self._sources:
            source = opened(self._index, shard, self._reading)
            assert isinstance(source, LocalSource)
            self.add(shard, source)
        return self._sources[shard]

    def add(self, shard: int, source: LocalSource) -> None:
        """Hold another file open, and close the file opened first if there are too many."""
        self._sources[shard] = source
        if len(self._sources) > _OPEN:
            self._sources.popitem(last=False)[1].close()

    def close(self) -> None:
        """Close all files."""
        while self._sources:
            self._sources.popitem()[1].close()


class LocalSamples:
    """Reads the wanted samples of a local shard: a call with n returns the n-th one, or None if it is lost."""

    def __init__(self, shard: int, wanted: Wanted, files: OpenFiles, reading: ShardReading) -> None:
        self._shard, self._wanted, self._files, self._reading = shard, wanted, files, reading
        self._begin: list[int] = wanted.begin.tolist()
        self._length: list[int] = (wanted.stop - wanted.begin).tolist()

    def expect(self) -> None:
        """Tell the system which bytes will be read, so that it fetches them before they are needed."""
        begin, stop = self._wanted.begin, self._wanted.stop
        cuts = np.flatnonzero(begin[1:] - stop[:-1] > _AHEAD_GAP)
        source = self._files.get(self._shard)
        for start, end in zip([0, *(cuts + 1).tolist()], [*cuts.tolist(), len(begin) - 1], strict=True):
            source.expect(int(begin[start]), int(stop[end]))

    def __call__(self, nth: int) -> Raw | None:
        begin, length = self._begin[nth], self._length[nth]
        try:
            file = _Counted(self._files.get(self._shard), self._reading)
            data, base = (file, 0) if length >= _LARGE else (file[begin : begin + length], begin)
            sample = self._wanted.cut(nth, data, base)
            self._reading.counts.bytes_kept += self._wanted.kept(nth)
            return sample
        except (ShardError, OSError) as error:
            self._reading.lost(error, 1)
            return None


class _Counted:
    """Makes a file look like bytes: each slice reads from the file and is counted."""

    def __init__(self, source: LocalSource, reading: ShardReading) -> None:
        self._source, self._counts = source, reading.counts

    def __getitem__(self, part: slice, /) -> bytes:
        data = self._source.read(part.start, part.stop - part.start)
        self._counts.ranges += 1
        self._counts.bytes_read += len(data)
        return data
