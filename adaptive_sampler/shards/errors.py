"""The errors of shards, and the handler that decides whether reading goes on after an error."""

from collections.abc import Callable

from adaptive_sampler.errors import AdaptiveSamplerError

Handler = Callable[[Exception], bool]
"""Decides what happens after an error, as in WebDataset: return True to go on without what was lost, return False to
stop without an error, or raise. While an index is built, to stop keeps the samples before the damage, and no later shard.
"""


class ShardError(AdaptiveSamplerError, RuntimeError):
    """A shard cannot be read as its index says."""


class ShardMissing(ShardError):
    """A shard is not where its URL points."""


class ShardUnreadable(ShardError):
    """A shard could be opened, and then its server or disk did not give some of its bytes."""


class ShardChanged(ShardError):
    """A shard is no longer the one that was indexed."""


class ShardDamaged(ShardError):
    """A shard is cut off, or is not a valid tar archive, from byte `offset` on."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class ShardUnsupported(ShardError):
    """A shard is intact, but has samples that cannot be read alone: it is compressed, or has sparse members or links; or
    it has members, and no sample.
    """


class DuplicateKey(ShardError):
    """Two samples share a key, or parts of one sample lie apart, or two of its members share a part name."""


class RangesUnsupported(ShardError):
    """A server cannot send byte ranges, only whole files."""


class WrongRange(ShardError):
    """A server answers a byte range with other bytes than were asked for."""


def reraise(error: Exception) -> bool:
    """The default handler: raise every error, so that nothing is skipped."""
    raise error
