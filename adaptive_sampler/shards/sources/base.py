"""What reading needs of a shard, wherever it lies: bytes by offset, a size, and a stamp that changes when it does."""

import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.errors import ShardMissing

T = TypeVar("T")


class Source(Protocol):
    """An open shard. `read` may be called from several threads where `parallel` says so."""

    parallel: int  # how many reads at a time are worth having under way; 0: call it directly, in order
    merge_gap: int | None  # bytes that are cheaper to read than to skip; None: each sample is best read when delivered

    @property
    def size(self) -> int | None:
        """The shard's bytes, or None where nobody says."""

    @property
    def stamp(self) -> str:
        """Changes when the shard does: its size with its modification time or etag."""

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length, fewer only where the shard ends before."""

    def mapped(self) -> mmap.mmap | None:
        """The shard as memory, where it can be that; None elsewhere."""

    def close(self) -> None:
        """Give the file or connection back."""


@dataclass(frozen=True)
class Retry:
    """How often a remote read is tried, and after how many seconds again: delay, 2 · delay, 4 · delay, …"""

    attempts: int = 5
    delay: float = 0.25

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.delay < 0:
            raise InvalidValue(
                f"Retry({self.attempts}, {self.delay}): there is at least 1 attempt, and a delay is 0 s or more."
            )

    def call(self, action: Callable[[], T], transient: Callable[[Exception], bool]) -> T:
        """`action()`, again while it raises what is `transient`; the last error is raised."""
        for attempt in range(self.attempts - 1):
            try:
                return action()
            except Exception as error:
                if not transient(error):
                    raise
            time.sleep(self.delay * 2**attempt)
        return action()


def missing(url: str, error: Exception) -> ShardMissing:
    """The error for a shard that cannot be opened."""
    return ShardMissing(
        f"{url}: cannot be opened: {type(error).__name__}: {error}. Put the shard back, or index the ones that are "
        "there; a handler that returns True goes on without it."
    )
