"""What every source of a shard offers: bytes by offset, a size, and a stamp that changes when the shard changes."""

import mmap
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.errors import ShardChanged, ShardMissing, ShardUnreadable
from adaptive_sampler.shards.sources.crew import rest

T = TypeVar("T")
_ETAG = ", ETag "
_UNKNOWN = "an unknown number of bytes"
_XML = re.compile(
    r"<\?xml.*?<Code>(\w+)</Code>.*?</Error>", re.DOTALL
)  # an object store's error, with numbers of no use here
PUT_BACK = "Put the shard back, or index the ones that are there"


class Source(Protocol):
    """An open shard. If `parallel` is above 0, `read` may be called from several threads.

    Whatever goes wrong with the file, the disk, the server or the connection is raised as a ShardError that names the
    shard: no error of a client's library leaves a source.
    """

    @property
    def parallel(self) -> int:
        """How many reads should run at a time; 0: call `read` directly, one after another."""

    @property
    def together(self) -> int:
        """How many reads one thread does before it hands them over."""

    @property
    def merge_gap(self) -> int | None:
        """How many bytes are cheaper to read than to skip; None: read a sample when it is delivered."""

    @property
    def lone_gap(self) -> int | None:
        """The same where each read waits for the one before it; None: none are."""

    @property
    def size(self) -> int | None:
        """The shard's size in bytes, or None if it is unknown."""

    @property
    def stamp(self) -> str:
        """A text that changes when the shard changes: its size, its modification time and its ETag, as far as known.

        Two stamps are compared with `same_stamp`.
        """

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only if the shard ends before.

        Raises ShardUnreadable if they cannot be had, ShardChanged if it is known that they are no longer the shard's.
        """

    def mapped(self) -> mmap.mmap | None:
        """The shard as mapped memory, or None if it cannot be mapped."""

    def close(self) -> None:
        """Release the file or connection."""


@dataclass(frozen=True)
class Retry:
    """How a failed remote read is tried again: `attempts` tries in all, with growing pauses between them.

    delay: the first pause in seconds; the pauses are delay, 2 · delay, 4 · delay, …. A server that asks for a longer
    pause (Retry-After) gets it.
    longest_wait: if a server asks for a pause of more seconds than this, its error is raised at once.
    silence: a try has failed when so many seconds pass without a further byte.
    patience: no try begins so many seconds after the first, not counting the pauses that the server asked for, so that a
    server that is silent costs no more than patience + silence.
    longest: a try for up to 32 MiB has failed after so many seconds, though bytes still come, so that a server that trickles
    costs no more than patience + longest. More is asked for piece by piece.
    Raises InvalidValue for less than one attempt, a negative delay, longest_wait or patience, and a silence or longest that is
    not above 0.
    """

    attempts: int = 5
    delay: float = 0.25
    longest_wait: float = 120.0
    silence: float = 60.0
    patience: float = 120.0
    longest: float = 600.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.delay < 0:
            raise InvalidValue(
                f"Retry({self.attempts}, {self.delay}): there is at least 1 attempt, and a delay is 0 s or more."
            )
        if not (self.longest_wait >= 0 and self.silence > 0 and self.patience >= 0 and self.longest > 0):
            raise InvalidValue(
                f"Retry(longest_wait={self.longest_wait}, silence={self.silence}, patience={self.patience}, longest="
                f"{self.longest}): a wait is 0 s or more, and a server needs some time to answer: give a silence, and a "
                "longest, above 0 s."
            )

    def call(self, action: Callable[[], T], pause: Callable[[Exception], float | None]) -> T:
        """Call `action`, again after an error that may pass, and return its result. Raises the last error.

        pause: says of an error how many seconds the server wants to be left alone, 0 if it does not say; None if trying
        again does not help.
        """
        end = time.monotonic() + self.patience
        for attempt in range(self.attempts - 1):
            try:
                return action()
            except Exception as error:
                asked, own = pause(error), self.delay * 2**attempt
                if asked is None or asked > self.longest_wait or time.monotonic() + own > end:
                    raise
                if not rest(max(own, asked)):
                    raise
                end += asked
        return action()


def stamp_of(size: int | None, modified: object, etag: object) -> str:
    """The stamp of a remote shard. What its server does not tell is None or empty.

    A weak ETag counts as the strong one of the same text, because a proxy weakens the ETag of what it may compress.
    """
    tag = str(etag or "").removeprefix("W/")
    told = _UNKNOWN if size is None else f"{size} bytes"
    return f"{told}, modified {modified or 'unknown'}" + (f"{_ETAG}{tag}" if tag else "")


def same_stamp(one: str, other: str) -> bool:
    """Whether two stamps may be of the same bytes: of two ETags, only these and the sizes, as far as known, count."""
    (one, _, tag), (other, _, other_tag) = one.partition(_ETAG), other.partition(_ETAG)
    if tag and other_tag:
        sizes = {one.partition(",")[0], other.partition(",")[0]} - {_UNKNOWN}
        return tag == other_tag and len(sizes) < 2
    return one == other


def fuller(one: str, other: str) -> str:
    """The one of two stamps of the same bytes that has an ETag; the first if both have, or neither."""
    return other if _ETAG in other and _ETAG not in one else one


def changed(url: str, indexed: str, now: str) -> ShardChanged:
    """The error for a shard that is not the one of the index."""
    return ShardChanged(
        f"{url} has changed: {indexed} when indexed, {now} now. Run ShardIndex.build again: it reads only what changed."
    )


def missing(url: str, error: Exception, remedy: str = PUT_BACK) -> ShardMissing:
    """The error for a shard that cannot be opened."""
    return ShardMissing(
        f"{url}: cannot be opened: {told(error)}. {remedy}; a handler that returns True goes on without it."
    )


def unreadable(
    url: str, start: int, length: int, error: Exception, remedy: str = "Read on when the server or disk is well again"
) -> ShardUnreadable:
    """The error for bytes that an open shard does not give."""
    return ShardUnreadable(
        f"{url}: bytes {start}-{start + length - 1} cannot be read: {told(error)}. {remedy}; a handler that returns True "
        "goes on without what is lost."
    )


def told(error: Exception) -> str:
    """What kind of error it is, and what it says, if anything, on one line."""
    said, _, details = str(error).partition("\nDebug source:")  # obstore's, over many lines
    late = " (a timeout)" if "TimedOut" in details else ""
    said = _XML.sub(r"\1", said)
    return " ".join(f"{type(error).__name__}: {said}".split()).rstrip(":") + late
