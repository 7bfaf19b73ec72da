"""Reads the kept samples and nothing else: byte ranges merged over small gaps, shards without kept rows unopened."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.errors import Handler, ShardChanged, ShardDamaged, reraise
from adaptive_sampler.shards.index import Extents, ShardIndex
from adaptive_sampler.shards.source import Access, Source
from adaptive_sampler.shards.tar import BLOCK, header_is

Ints = NDArray[np.int64]
Raw = dict[str, Any]
"""A raw WebDataset sample: __key__, __url__, __index__ (its row) and the parts as bytes."""

_RUN = 4 << 20  # bytes of a remote run: a longer one is read in pieces, so that memory stays bounded
_LOCAL_RUN = 512 << 10  # of a local one: what is cut into samples while it is in the processor's cache
_LARGE = 256 << 10  # bytes of a local sample whose parts are read one by one, which saves copying them


@dataclass
class Counts:
    """What reading cost and lost so far."""

    samples: int = 0
    bytes_kept: int = 0
    bytes_read: int = 0
    ranges: int = 0
    shards: int = 0
    samples_lost: int = 0
    shards_lost: int = 0


class Stop(Exception):
    """A handler returned False: reading ends here, in good order."""


@dataclass(frozen=True)
class Reading:
    """How samples are read.

    merge_gap: bytes between two kept samples that are read rather than skipped; None: what was measured for the
    kind of source. verify: check the header before each sample, so that moved bytes are noticed.
    """

    access: Access = Access()
    merge_gap: int | None = None
    verify: bool = True
    handler: Handler = reraise
    counts: Counts = field(default_factory=Counts, compare=False)

    def __post_init__(self) -> None:
        if self.merge_gap is not None and self.merge_gap < 0:
            raise InvalidValue(f"merge_gap={self.merge_gap}: bytes, 0 or more; None for the measured default.")


def read(index: ShardIndex, rows: Ints, reading: Reading) -> Iterator[Raw | None]:
    """Yield the samples of `rows` (visits,), in that order; None for one that is lost and that the handler let pass.

    Cheap where rows of one shard stand together, ascending. A handler that returns False ends the iteration.
    """
    shards = index.shard_of(rows)
    breaks = np.flatnonzero((np.diff(shards) != 0) | (np.diff(rows) < 0)) + 1
    try:
        for some in np.split(np.arange(len(rows)), breaks):
            if len(some):
                yield from _shard(index, int(shards[some[0]]), rows[some], reading)
    except Stop:
        return


def _shard(index: ShardIndex, shard: int, rows: Ints, reading: Reading) -> Iterator[Raw | None]:
    unique, visits = np.unique(rows, return_counts=True)
    try:
        source = _opened(index, shard, reading)
    except Exception as error:
        _lost(error, reading, len(rows), shards=1)
        yield from [None] * len(rows)
        return
    try:
        samples = _samples(index, shard, unique, source, reading)
        for sample, times in zip(samples, visits.tolist(), strict=True):
            yield sample
            for _ in range(times - 1):
                # A dict of its own: stages behind write into their samples.
                yield None if sample is None else dict(sample)
    finally:
        source.close()


def _opened(index: ShardIndex, shard: int, reading: Reading) -> Source:
    url, stamp = index.urls[shard], index.stamps[shard]
    source = reading.access.open(url)
    if source.stamp != stamp:
        source.close()
        raise ShardChanged(
            f"{url} has changed: {stamp} when indexed, {source.stamp} now. Run ShardIndex.build again: it reads "
            "only what changed."
        )
    reading.counts.shards += 1
    return source


def _samples(index: ShardIndex, shard: int, rows: Ints, source: Source, reading: Reading) -> Iterator[Raw | None]:
    url, extents = index.urls[shard], index.extents(shard, rows)
    lead = BLOCK if reading.verify else 0
    gap = source.merge_gap if reading.merge_gap is None else reading.merge_gap
    # A sample without parts lies where the one before it does, and must not cut that one short.
    begin, stop = np.maximum(extents.offset - lead, 0), np.maximum.accumulate(extents.stop)
    large = stop - begin >= _LARGE if not source.parallel else np.zeros(len(rows), bool)
    runs = _runs(begin, stop, gap, large, _RUN if source.parallel else _LOCAL_RUN)
    for (low, high), data in zip(runs, _fetched(source, begin, stop, runs, large), strict=True):
        if isinstance(data, Exception):
            _lost(data, reading, high - low)
            yield from [None] * (high - low)
            continue
        reading.counts.ranges += bool(data)
        reading.counts.bytes_read += len(data)
        base = int(begin[low])
        for nth in range(low, high):
            try:
                if large[nth]:
                    yield _sample(extents, nth, _Far(source, reading.counts), 0, int(rows[nth]), url, reading)
                else:
                    yield _sample(extents, nth, data, base, int(rows[nth]), url, reading)
            except (ShardDamaged, OSError) as error:
                _lost(error, reading, 1)
                yield None


class _Far:
    """A file as if it were bytes: each slice is a read of its own."""

    def __init__(self, source: Source, counts: Counts) -> None:
        self._source, self._counts = source, counts

    def __getitem__(self, part: slice) -> bytes:
        data = self._source.read(part.start, part.stop - part.start)
        self._counts.ranges += 1
        self._counts.bytes_read += len(data)
        return data


def _runs(begin: Ints, stop: Ints, gap: int, large: NDArray[np.bool_], most: int) -> list[tuple[int, int]]:
    """(low, high) of samples read with one range each: gaps up to `gap` merged, of bounded length, `large` alone."""
    apart = (begin[1:] - stop[:-1] > gap) | large[1:] | large[:-1]
    cuts = (np.flatnonzero(apart) + 1).tolist()
    runs = []
    for low, high in zip([0, *cuts], [*cuts, len(begin)], strict=True):
        while int(stop[high - 1] - begin[low]) > most:
            middle = max(int(np.searchsorted(stop[low:high], begin[low] + most, side="right")), 1) + low
            if middle >= high:
                break
            runs.append((low, middle))
            low = middle
        runs.append((low, high))
    return runs


def _fetched(
    source: Source, begin: Ints, stop: Ints, runs: Sequence[tuple[int, int]], large: NDArray[np.bool_]
) -> Iterator[bytes | Exception]:
    """The bytes of each run, or what went wrong; where latency counts, several runs ahead. None yet for a large one."""

    def one(low: int, high: int) -> bytes | Exception:
        if large[low]:
            return b""
        try:
            return source.read(int(begin[low]), int(stop[high - 1] - begin[low]))
        except Exception as error:  # judged by the handler, in order
            return error

    if not source.parallel:
        for low, high in runs:
            yield one(low, high)
        return
    pool = ThreadPoolExecutor(source.parallel)
    try:
        ahead: deque[Future[bytes | Exception]] = deque()
        for low, high in runs:
            ahead.append(pool.submit(one, low, high))
            if len(ahead) > source.parallel:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _sample(extents: Extents, nth: int, data: bytes | _Far, base: int, row: int, url: str, reading: Reading) -> Raw:
    names, member = extents.names[nth], extents.first[nth]
    sample: Raw = {"__key__": extents.keys[nth], "__url__": url, "__index__": row}
    starts, sizes = extents.start, extents.size
    if names and reading.verify:
        at = starts[member] - base
        if not header_is(data[at - BLOCK : at], sizes[member]):
            raise ShardDamaged(
                f"{url}: sample {extents.keys[nth]!r} (row {row}) is no longer at byte {starts[member]}: no header "
                f"of a member of {sizes[member]} bytes stands before it. Run ShardIndex.build again.",
                starts[member],
            )
    kept = 0
    for name in names:
        at, size = starts[member] - base, sizes[member]
        part = sample[name] = data[at : at + size]
        if len(part) != size:
            where = f"sample {extents.keys[nth]!r} (row {row})"
            raise ShardDamaged(f"{url}: cut off within {where}. Fetch the shard again.", starts[member] + len(part))
        kept += size
        member += 1
    reading.counts.samples += 1
    reading.counts.bytes_kept += kept
    return sample


def _lost(error: Exception, reading: Reading, samples: int, shards: int = 0) -> None:
    """Let the handler judge, and count what is lost with its leave."""
    if not reading.handler(error):
        raise Stop
    reading.counts.samples_lost += samples
    reading.counts.shards_lost += shards
