"""Read only the kept samples of tar shards: an index of where samples lie, and a reader for any framework."""

from adaptive_sampler.shards.errors import (
    DuplicateKey,
    RangesUnsupported,
    ShardChanged,
    ShardDamaged,
    ShardError,
    ShardMissing,
    ShardUnreadable,
    ShardUnsupported,
    WrongRange,
)
from adaptive_sampler.shards.indexing.energon import Energon
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.indexing.wids import Wids
from adaptive_sampler.shards.reading.reader import ShardReader
from adaptive_sampler.shards.reading.share import Place
from adaptive_sampler.shards.sources.access import Access
from adaptive_sampler.shards.sources.base import Retry

__all__ = [
    "Access",
    "DuplicateKey",
    "Energon",
    "Place",
    "RangesUnsupported",
    "Retry",
    "ShardChanged",
    "ShardDamaged",
    "ShardError",
    "ShardIndex",
    "ShardMissing",
    "ShardReader",
    "ShardUnreadable",
    "ShardUnsupported",
    "Wids",
    "WrongRange",
]
