"""Samples that a thread reads and cuts out, by one request after another, before it hands them over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from adaptive_sampler.shards.errors import ShardDamaged
from adaptive_sampler.shards.reading.settings import ShardReading
from adaptive_sampler.shards.reading.wanted import Raw, Wanted
from adaptive_sampler.shards.sources.base import Source
from adaptive_sampler.shards.sources.crew import Task, still_wanted

_PATIENCE = 0.05  # seconds that samples which have come wait for those that are read with them
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
    found: list[Got | Exception] = field(default_factory=list)  # of the spans that have been read

    @property
    def size(self) -> int:
        """The bytes that are read."""
        return sum(span.length for span in self.spans)

    def read(self) -> None:
        """Read the spans into `found`, but no more of them once nobody wants them."""
        for span in self.spans:
            if self.found and not still_wanted():
                break
            try:
                data = self.source.read(span.start, span.length)
                numbers = range(span.first, span.first + len(span.times))
                self.found.append(Got(len(data), [self._cut(nth, data, span.start) for nth in numbers]))
            except Exception as error:
                self.found.append(error)

    def outcome(self, task: Task | None) -> Got | Exception:
        """What came of the first span, once it has come."""
        while not self.found and task is not None and not task.wait(_PATIENCE):
            pass
        if not self.found and task is not None:
            task.result()  # what is no Exception
        return self.found[0]

    def _cut(self, nth: int, data: bytes, base: int) -> Raw | ShardDamaged:
        try:
            return self.wanted.cut(nth, data, base)
        except ShardDamaged as error:
            return error

    def tickets(self, task: Task | None) -> Iterator[Ticket]:
        """The tickets of all visits, once `task` has read them, or of each span that has come if that takes long; None: it has."""
        patient = True
        for nth, span in enumerate(self.spans):
            while task is not None and (patient or nth >= len(self.found)):
                patient = False
                if task.wait(_PATIENCE):
                    task.result()
                    task = None
            got = self.found[nth]
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
                if repeats == 1:
                    yield itself, sample
                else:
                    yield from [(as_it_is, sample)] * repeats


def itself(sample: Raw | None) -> Raw | None:
    """The sample of a ticket that is the only one for it."""
    return sample


def as_it_is(sample: Raw | None) -> Raw | None:
    """The sample of a ticket. A separate dict for each visit, because later stages write into their samples."""
    return None if sample is None else dict(sample)
