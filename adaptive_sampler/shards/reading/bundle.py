"""Samples that a thread reads and cuts out, by one request after another, before it hands them over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from adaptive_sampler.shards.errors import ShardDamaged
from adaptive_sampler.shards.reading.settings import ShardReading
from adaptive_sampler.shards.reading.wanted import Raw, Wanted
from adaptive_sampler.shards.sources.base import Source
from adaptive_sampler.shards.sources.crew import still_wanted

Ticket = tuple[Callable[[Any], Raw | None], Any]
"""A function and its argument. The call reads the sample if necessary, and returns it, or None if it is lost."""


class Span(NamedTuple):
    """Bytes start … start + length − 1 of a shard, for one request.

    They hold the wanted samples from number `first` on, each of which is visited as often as `times` says.
    """

    first: int
    times: list[int]
    start: int
    length: int


class Got(NamedTuple):
    """What came of a request: the number of bytes, and each sample, or the error in its place."""

    read: int
    samples: list[Raw | ShardDamaged]


@dataclass(frozen=True)
class Bundle:
    """The `spans` of one shard that one thread reads. Samples are cut out there, while the processor's cache has their bytes."""

    source: Source
    wanted: Wanted
    spans: list[Span]
    reading: ShardReading

    @property
    def size(self) -> int:
        """The bytes that are read."""
        return sum(span.length for span in self.spans)

    def read(self) -> list[Got | Exception]:
        """What comes of each request; nothing of the rest if nobody wants it any more."""
        found = list[Got | Exception]()
        for span in self.spans:
            if found and not still_wanted():
                break
            try:
                data = self.source.read(span.start, span.length)
                numbers = range(span.first, span.first + len(span.times))
                found.append(Got(len(data), [self._cut(nth, data, span.start) for nth in numbers]))
            except Exception as error:
                found.append(error)
        return found

    def _cut(self, nth: int, data: bytes, base: int) -> Raw | ShardDamaged:
        try:
            return self.wanted.cut(nth, data, base)
        except ShardDamaged as error:
            return error

    def tickets(self, found: list[Got | Exception] | Exception) -> Iterator[Ticket]:
        """The tickets of all visits, of what `read` returned or raised."""
        if isinstance(found, Exception):
            raise found
        for span, got in zip(self.spans, found, strict=True):
            if isinstance(got, Exception):
                self.reading.lost(got, len(span.times))
                yield from [(as_it_is, None)] * sum(span.times)
            else:
                yield from self._delivered(span, got)

    def _delivered(self, span: Span, got: Got) -> Iterator[Ticket]:
        counts = self.reading.counts
        counts.ranges += 1
        counts.bytes_read += got.read
        for nth, (repeats, sample) in enumerate(zip(span.times, got.samples, strict=True), span.first):
            if isinstance(sample, ShardDamaged):
                self.reading.lost(sample, 1)
                yield from [(as_it_is, None)] * repeats
            else:
                counts.bytes_kept += self.wanted.kept(nth)
                yield from [(as_it_is, sample)] * repeats


def as_it_is(sample: Raw | None) -> Raw | None:
    """The sample of a ticket. A separate dict for each visit, because later stages write into their samples."""
    return None if sample is None else dict(sample)
