"""Bytes of a shard by offset, wherever it lies: a local file, a file behind ranges, or a stream read forward."""

import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.errors import ShardMissing
from adaptive_sampler.shards.tar import BLOCK, HEADER_BYTES

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


@dataclass(frozen=True)
class Access:
    """How shards are opened and requests are made.

    strict_ranges: refuse a server without byte ranges, instead of receiving the whole shard and discarding.
    retry: what happens when a request fails. header_bytes: bytes of a request while a shard is indexed; more than the
    default, which reads hardly any body, spares requests where samples are small and answers slow.
    """

    strict_ranges: bool = False
    retry: Retry = Retry()
    header_bytes: int = HEADER_BYTES

    def __post_init__(self) -> None:
        if self.header_bytes < BLOCK:
            raise InvalidValue(f"header_bytes={self.header_bytes}: a tar header has {BLOCK}; ask for that or more.")

    def open(self, url: str) -> Source:
        """Open the shard at `url`. Raises ShardMissing where there is none."""
        scheme = urlsplit(url).scheme
        if scheme == "pipe" or url == "-":
            raise InvalidValue(
                f"{url}: a pipe has no offsets to read at. Index the file behind it, or use `selected` on the stream."
            )
        if scheme in ("", "file"):
            return LocalSource(url)
        # Here, because the library behind it is an extra.
        from adaptive_sampler.shards.remote import open_remote

        return open_remote(url, self)


class LocalSource:
    """A local file, read with `pread`: no seeking, no shared position, no SIGBUS should the file shrink."""

    parallel = 0
    merge_gap: int | None = (
        None  # measured in benchmarks/streams.py: a read from the page cache costs less than holding its bytes
    )

    def __init__(self, url: str) -> None:
        path = unquote(urlsplit(url).path) if url.startswith("file:") else url
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise missing(url, error) from error
        status = os.fstat(self._descriptor)
        self.size: int | None = status.st_size
        self.stamp = f"{status.st_size} bytes, mtime {status.st_mtime_ns}"

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length, fewer only at the end of the file."""
        data = os.pread(self._descriptor, length, start)
        while len(data) < length:  # Linux stops a read at 2 GiB, a signal may stop it anywhere
            more = os.pread(self._descriptor, length - len(data), start + len(data))
            if not more:
                break
            data += more
        return data

    def expect(self, start: int, stop: int) -> None:
        """Let the system fetch bytes start … stop − 1 into its page cache, without waiting for them."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)

    def mapped(self) -> mmap.mmap | None:
        """The file as memory, for the header pass: few pages are touched, and none read ahead."""
        if not self.size:
            return None
        found = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            found.madvise(mmap.MADV_RANDOM)
        return found

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class StreamSource:
    """A file that can only be read forward: what lies between two reads is received and thrown away."""

    parallel = 0
    merge_gap: int | None = 1 << 62  # skipping costs as much as reading

    def __init__(
        self,
        reopen: Callable[[], BinaryIO],
        size: int | None,
        stamp: str,
        retry: Retry,
        transient: Callable[[Exception], bool],
    ) -> None:
        self._reopen, self._retry, self._transient = reopen, retry, transient
        self.size, self.stamp = size, stamp
        self._stream: BinaryIO | None = None
        self._position = 0

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length; going back opens the stream anew."""
        return self._retry.call(lambda: self._read(start, length), self._transient)

    def _read(self, start: int, length: int) -> bytes:
        try:
            if self._stream is None or start < self._position:
                self.close()
                self._stream, self._position = self._reopen(), 0
            while self._position < start:
                if not self._take(min(start - self._position, 1 << 20)):
                    return b""
            chunks = []
            while length > 0 and (chunk := self._take(length)):
                chunks.append(chunk)
                length -= len(chunk)
            return b"".join(chunks)
        except Exception:
            self.close()  # a stream that failed once is at no known position
            raise

    def _take(self, length: int) -> bytes:
        assert self._stream is not None
        chunk = self._stream.read(length)
        self._position += len(chunk)
        return chunk

    def mapped(self) -> None:
        """A stream is nowhere in memory."""

    def close(self) -> None:
        """Close the stream; a later read opens it again."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def missing(url: str, error: Exception) -> ShardMissing:
    """The error for a shard that cannot be opened."""
    return ShardMissing(
        f"{url}: cannot be opened: {type(error).__name__}: {error}. Put the shard back, or index the ones that are "
        "there; a handler that returns True goes on without it."
    )
