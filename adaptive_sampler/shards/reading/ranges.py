"""Reads only the wanted samples. If requests are expensive, one request reads samples that lie close together."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from adaptive_sampler.shards.errors import RangesUnsupported, ShardChanged
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.reading.bundle import Bundle, Span, Ticket, as_it_is
from adaptive_sampler.shards.reading.flight import Due, Flight
from adaptive_sampler.shards.reading.samples import LocalSamples, OpenFiles
from adaptive_sampler.shards.reading.settings import ShardReading, opened
from adaptive_sampler.shards.reading.wanted import Ints, Wanted
from adaptive_sampler.shards.sources.base import Source
from adaptive_sampler.shards.sources.crew import Task
from adaptive_sampler.shards.sources.local import LocalSource

_RUN = 2 << 20  # bytes: samples that lie further apart are not read with one request, so that memory stays bounded
_BUNDLE = 1 << 20  # bytes that one thread reads before it hands them over
_WASTE = 1.5  # bytes of gaps for each byte of wanted samples, at most, unless the user says how long a gap may be


def read(index: ShardIndex, rows: Ints, reading: ShardReading, files: OpenFiles) -> Iterator[Ticket]:
    """Yield a ticket for each of `rows` (visits,), in that order. The ticket of a lost sample returns None.

    Shards without rows are not opened. A shard is opened once for each run of ascending rows, so this is fast if all
    rows of a shard form one run. Remote shards are opened and read ahead. Raises `Stop` if the handler returns False.
    """
    shards = index.shard_of(rows)
    breaks = np.flatnonzero((np.diff(shards) != 0) | (np.diff(rows) < 0)) + 1
    parts = np.split(np.arange(len(rows)), breaks)
    jobs = (_ShardJob(index, int(shards[some[0]]), rows[some], reading, files) for some in parts if len(some))
    yield from Flight(jobs, reading.access.io_threads, reading.access.max_in_flight)


class _ShardJob:
    """A shard of which the samples `rows` (ascending) are read."""

    def __init__(self, index: ShardIndex, shard: int, rows: Ints, reading: ShardReading, files: OpenFiles) -> None:
        self._index, self._shard, self._rows, self._reading, self._files = index, shard, rows, reading, files
        self._begun = self._elsewhere = False  # whether tickets came, and whether all of them come in another way

    def first(self) -> Callable[[], Source] | Source | None:
        """What opens a remote shard, or the shard itself where its first range does; a local one is opened when its turn comes."""
        access, url = self._reading.access, self._index.urls[self._shard]
        if access.is_local(url):
            return None
        expected = access.expected(url, self._index.stamps[self._shard])
        return expected or partial(opened, self._index, self._shard, self._reading)

    def rest(self, source: Source | Exception | None) -> Iterator[Due[Ticket]]:
        """The tickets of a remote shard with one request after another, of any other shard all together."""
        if isinstance(source, Exception) or source is None or not source.parallel:
            yield Due(lambda _: self._tickets(source))
            return
        for bundle in self._requests(source):
            if self._elsewhere:
                return
            yield Due(partial(self._delivered, bundle), bundle.read, bundle.size)

    def _delivered(self, bundle: Bundle, task: Task | None) -> Iterator[Ticket]:
        """The tickets of a bundle. The first one shows whether the shard is there, and can be read like this."""
        if self._elsewhere:
            return
        if not self._begun:
            self._begun, found = True, bundle.outcome(task)
            whole = isinstance(found, RangesUnsupported)
            if isinstance(found, Exception) and (whole or not bundle.source.stamp):
                self._elsewhere = True
                again = whole or isinstance(found, ShardChanged)  # it may be a stream, or no shard at all
                yield from self._tickets(None if again else found)
                return
            self._reading.counts.shards += 1
        yield from bundle.tickets(task)

    def _tickets(self, source: Source | Exception | None) -> Iterator[Ticket]:
        try:
            source = source or opened(self._index, self._shard, self._reading)
            if isinstance(source, Exception):
                raise source
        except Exception as error:
            self._reading.lost(error, len(self._rows), shards=1)
            yield from [(as_it_is, None)] * len(self._rows)
            return
        self._reading.counts.shards += 1
        if self._reading.merge_gap is None and isinstance(source, LocalSource):
            yield from self._when_delivered(source)
            return
        try:
            for bundle in self._requests(source):
                bundle.read()
                yield from bundle.tickets(None)
        finally:
            source.close()

    def _when_delivered(self, source: LocalSource) -> Iterator[Ticket]:
        self._files.add(self._shard, source)
        unique, visits = np.unique(self._rows, return_inverse=True)
        samples = LocalSamples(
            self._shard, Wanted(self._index, self._shard, unique, self._reading), self._files, self._reading
        )
        samples.expect()
        yield from [(samples, nth) for nth in visits.tolist()]

    def _requests(self, source: Source) -> Iterator[Bundle]:
        """The requests that read all samples, each with those that lie together but for gaps."""
        unique, times = np.unique(self._rows, return_counts=True)
        wanted = Wanted(self._index, self._shard, unique, self._reading)
        gap = self._reading.merge_gap
        if gap is None:
            gap = source.merge_gap or 0
            gap = min(gap, _thrifty(wanted.begin, wanted.stop)) if source.parallel else gap
        runs = deque(_runs(wanted.begin, wanted.stop, gap))
        while runs:
            yield self._bundle(source, wanted, runs, times)

    def _bundle(self, source: Source, wanted: Wanted, runs: deque[tuple[int, int]], times: Ints) -> Bundle:
        """The next of `runs`: as many as the source takes `together`, and `_BUNDLE` bytes and one run more at most."""
        spans, size = list[Span](), 0
        while runs and len(spans) < source.together and size < _BUNDLE:
            low, high = runs.popleft()
            start = int(wanted.begin[low])
            spans.append(Span(low, times[low:high].tolist(), start, int(wanted.stop[high - 1]) - start))
            size += spans[-1].length
        return Bundle(source, wanted, spans, self._reading)


def _thrifty(begin: Ints, stop: Ints) -> int:
    """The longest gap of which all, and all shorter ones, have no more than `_WASTE` times the bytes of the samples."""
    gaps = np.sort(np.maximum(begin[1:] - stop[:-1], 0))
    served = np.cumsum(gaps)
    few = int(np.searchsorted(served, _WASTE * int((stop - begin).sum()), side="right"))
    return int(gaps[few]) - 1 if few < len(gaps) else _RUN


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
