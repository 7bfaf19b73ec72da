"""Tar shards of which only the kept samples are read: the index, and a reader for any framework."""

from adaptive_sampler.shards.errors import (
    DuplicateKey,
    RangesUnsupported,
    ShardChanged,
    ShardDamaged,
    ShardError,
    ShardMissing,
    ShardUnsupported,
)
from adaptive_sampler.shards.index import ShardIndex
from adaptive_sampler.shards.reader import ShardReader
from adaptive_sampler.shards.share import Place
from adaptive_sampler.shards.source import Access, Retry

__all__ = [
    "Access",
    "DuplicateKey",
    "Place",
    "RangesUnsupported",
    "Retry",
    "ShardChanged",
    "ShardDamaged",
    "ShardError",
    "ShardIndex",
    "ShardMissing",
    "ShardReader",
    "ShardUnsupported",
]
