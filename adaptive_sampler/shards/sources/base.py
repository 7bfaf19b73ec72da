"""What every source of a shard offers: bytes by offset, a size, and a stamp that changes when the shard changes."""

import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.errors import ShardMissing

T = TypeVar("T")


class Source(Protocol):
    """An open shard. If `parallel` is above 0, `read` may be called from several threads."""

    parallel: int  # how many reads should run at a time; 0: call `read` directly, one after another
    merge_gap: int | None  # bytes that are cheaper to read than to skip; None: read a sample when it is delivered

    @property
    def size(self) -> int | None:
        """The shard's size in bytes, or None if it is unknown."""

    @property
    def stamp(self) -> str:
        """A text that changes when the shard changes: its size, and its modification time or ETag."""

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only if the shard ends before."""

    def mapped(self) -> mmap.mmap | None:
        """The shard as mapped memory, or None if it cannot be mapped."""

    def close(self) -> None:
        """Release the file or connection."""


@dataclass(frozen=True)
class Retry:
    """How a failed remote read is tried again: `attempts` tries in all, with growing pauses between them.

    delay: the first pause in seconds; the pauses are delay, 2 · delay, 4 · delay, …. Raises InvalidValue for less than
    one attempt or a negative delay.
    """

    attempts: int = 5
    delay: float = 0.25

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.delay < 0:
            raise InvalidValue(
                f"Retry({self.attempts}, {self.delay}): there is at least 1 attempt, and a delay is 0 s or more."
            )

    def call(self, action: Callable[[], T], transient: Callable[[Exception], bool]) -> T:
        """Call `action`, again after a `transient` error, and return its result. Raises the last error."""
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
