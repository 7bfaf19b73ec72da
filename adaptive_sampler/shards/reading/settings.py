"""The settings with which samples are read, and the counts of what was read and lost."""

from dataclasses import dataclass, field

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.errors import Handler, reraise
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.sources.access import Access
from adaptive_sampler.shards.sources.base import Source, changed, same_stamp


@dataclass
class Counts:
    """What was read and lost so far.

    samples: samples delivered. bytes_kept: bytes of the parts that were read. bytes_read: all bytes that were read,
    with headers and gaps. ranges: reads or requests. shards: shards opened for reading. samples_lost, shards_lost: what
    was left out because the handler returned True.
    """

    samples: int = 0
    bytes_kept: int = 0
    bytes_read: int = 0
    ranges: int = 0
    shards: int = 0
    samples_lost: int = 0
    shards_lost: int = 0


class Stop(Exception):
    """A handler returned False: reading ends here without an error."""


@dataclass(frozen=True)
class ShardReading:
    """How samples are read.

    access: how shards are opened.
    merge_gap: gaps of up to this many bytes between two kept samples are read and discarded instead of skipped. None:
    the value measured for the kind of source.
    verify: check the header before each sample, so that moved bytes are noticed.
    handler: decides whether reading goes on after an error.
    Raises InvalidValue for a negative merge_gap.
    """

    access: Access = Access()
    merge_gap: int | None = None
    verify: bool = True
    handler: Handler = reraise
    counts: Counts = field(default_factory=Counts, compare=False)

    def __post_init__(self) -> None:
        if self.merge_gap is not None and self.merge_gap < 0:
            raise InvalidValue(f"merge_gap={self.merge_gap}: bytes, 0 or more; None for the measured default.")

    def lost(self, error: Exception, samples: int, shards: int = 0) -> None:
        """Let the handler decide about `error`, and count what is lost. Raises `Stop` if the handler returns False."""
        if not self.handler(error):
            raise Stop
        self.counts.samples_lost += samples
        self.counts.shards_lost += shards


def opened(index: ShardIndex, shard: int, reading: ShardReading) -> Source:
    """Open a shard. Raises ShardMissing, or ShardChanged if it has changed since it was indexed."""
    url, stamp = index.urls[shard], index.stamps[shard]
    source = reading.access.open(url, stamp)
    if not same_stamp(source.stamp, stamp):
        source.close()
        raise changed(url, stamp, source.stamp)
    return source
