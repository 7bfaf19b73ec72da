"""Reads only the wanted samples. If requests are expensive, one request reads samples that lie close together."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from adaptive_sampler.shards.errors import ShardDamaged
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.reading.samples import LocalSamples, OpenFiles
from adaptive_sampler.shards.reading.settings import ShardReading, opened
from adaptive_sampler.shards.reading.wanted import Ints, Raw, Wanted
from adaptive_sampler.shards.sources.base import Source
from adaptive_sampler.shards.sources.local import LocalSource

_RUN = 4 << 20  # bytes: samples that lie further apart are not read with one request, so that memory stays bounded

Ticket = tuple[Callable[[Any], Raw | None], Any]
"""A function and its argument. The call reads the sample if necessary, and returns it, or None if it is lost."""


def read(index: ShardIndex, rows: Ints, reading: ShardReading, files: OpenFiles) -> Iterator[Ticket]:
    """Yield a ticket for each of `rows` (visits,), in that order. The ticket of a lost sample returns None.

    Shards without rows are not opened. A shard is opened once for each run of ascending rows, so this is fast if all
    rows of a shard form one run. Raises `Stop` if the handler returns False.
    """
    shards = index.shard_of(rows)
    breaks = np.flatnonzero((np.diff(shards) != 0) | (np.diff(rows) < 0)) + 1
    for some in np.split(np.arange(len(rows)), breaks):
        if len(some):
            yield from _shard(index, int(shards[some[0]]), rows[some], reading, files)


def _shard(index: ShardIndex, shard: int, rows: Ints, reading: ShardReading, files: OpenFiles) -> Iterator[Ticket]:
    try:
        source = opened(index, shard, reading)
    except Exception as error:
        reading.lost(error, len(rows), shards=1)
        yield from [(_as_it_is, None)] * len(rows)
        return
    reading.counts.shards += 1
    unique, visits = np.unique(rows, return_inverse=True)
    wanted = Wanted(index, shard, unique, reading)
    gap = source.merge_gap if reading.merge_gap is None else reading.merge_gap
    if gap is None and isinstance(source, LocalSource):
        files.add(shard, source)
        samples = LocalSamples(shard, wanted, files, reading)
        samples.expect()
        yield from [(samples, nth) for nth in visits.tolist()]
        return
    try:
        yield from _eager(wanted, source, gap or 0, visits, reading)
    finally:
        source.close()


def _as_it_is(sample: Raw | None) -> Raw | None:
    # A separate dict for each visit, because later stages write into their samples.
    return None if sample is None else dict(sample)


def _eager(wanted: Wanted, source: Source, gap: int, visits: Ints, reading: ShardReading) -> Iterator[Ticket]:
    times = np.bincount(visits, minlength=len(wanted)).tolist()
    for sample, repeats in zip(_merged(wanted, source, gap, reading), times, strict=True):
        yield from [(_as_it_is, sample)] * repeats


def _merged(wanted: Wanted, source: Source, gap: int, reading: ShardReading) -> Iterator[Raw | None]:
    """Yield all wanted samples of a shard, None for a lost one. Gaps of up to `gap` bytes are read with them."""
    runs = _runs(wanted.begin, wanted.stop, gap)
    spans = [(int(wanted.begin[low]), int(wanted.stop[high - 1] - wanted.begin[low])) for low, high in runs]
    for (low, high), (base, _), data in zip(runs, spans, _fetched(source, spans), strict=True):
        if isinstance(data, Exception):
            reading.lost(data, high - low)
            yield from [None] * (high - low)
            continue
        reading.counts.ranges += 1
        reading.counts.bytes_read += len(data)
        for nth in range(low, high):
            try:
                yield wanted.cut(nth, data, base)
            except ShardDamaged as error:
                reading.lost(error, 1)
                yield None


def _runs(begin: Ints, stop: Ints, gap: int) -> list[tuple[int, int]]:
    """Split samples into runs low … high − 1 that one request reads: gaps up to `gap` bytes, of bounded length."""
    cuts = (np.flatnonzero(begin[1:] - stop[:-1] > gap) + 1).tolist()
    runs = []
    for low, high in zip([0, *cuts], [*cuts, len(begin)], strict=True):
        while int(stop[high - 1] - begin[low]) > _RUN:
            middle = max(int(np.searchsorted(stop[low:high], begin[low] + _RUN, side="right")), 1) + low
            if middle >= high:
                break
            runs.append((low, middle))
            low = middle
        runs.append((low, high))
    return runs


def _fetched(source: Source, spans: Sequence[tuple[int, int]]) -> Iterator[bytes | Exception]:
    """Yield the bytes of each span (start, length), or its error. Up to `source.parallel` reads run at a time."""

    def one(start: int, length: int) -> bytes | Exception:
        try:
            return source.read(start, length)
        except Exception as error:  # returned, so that the handler gets errors in the order of the spans
            return error

    if not source.parallel:
        yield from (one(*span) for span in spans)
        return
    pool = ThreadPoolExecutor(source.parallel)
    try:
        ahead: deque[Future[bytes | Exception]] = deque()
        for span in spans:
            ahead.append(pool.submit(one, *span))
            if len(ahead) > source.parallel:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
