"""What can be wrong with a shard, as types, and who decides whether reading goes on."""

from collections.abc import Callable

from adaptive_sampler.errors import AdaptiveSamplerError

Handler = Callable[[Exception], bool]
"""As WebDataset's handlers: True goes on without what was lost, False stops, raising ends it with the error."""


class ShardError(AdaptiveSamplerError, RuntimeError):
    """A shard cannot be read as its index says."""


class ShardMissing(ShardError):
    """A shard is not where its URL points."""


class ShardChanged(ShardError):
    """A shard is no longer the one that was indexed."""


class ShardDamaged(ShardError):
    """A shard is cut off, or its bytes are not a tar archive from some offset on."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class ShardUnsupported(ShardError):
    """A shard is a sound file of a kind of which single samples cannot be read."""


class DuplicateKey(ShardError):
    """Two samples share a key, or two members of one sample share a part name."""


class RangesUnsupported(ShardError):
    """A server sends whole files only."""


def reraise(error: Exception) -> bool:
    """The default handler: nothing is skipped."""
    raise error
