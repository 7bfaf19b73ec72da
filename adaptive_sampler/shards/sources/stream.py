"""Reads shards from streams that can only be read forward."""

from collections.abc import Callable
from typing import Protocol

from adaptive_sampler.shards.errors import ShardError
from adaptive_sampler.shards.sources.base import Retry, unreadable


class OneWay(Protocol):
    """Bytes that come one after another."""

    def read(self, length: int, /) -> bytes:
        """Up to `length` of the next bytes, none at the end."""

    def close(self) -> None:
        """Let go of what is behind it."""


class StreamSource:
    """A file that can only be read forward: bytes between two reads are received and discarded."""

    parallel, together = 0, 1
    merge_gap: int | None = 1 << 62  # skipping costs as much as reading
    lone_gap = merge_gap

    def __init__(
        self,
        url: str,
        reopen: Callable[[], OneWay],
        size: int | None,
        stamp: str,
        retry: Retry,
        pause: Callable[[Exception], float | None],
    ) -> None:
        self._url, self._reopen, self._retry, self._pause = url, reopen, retry, pause
        self.size, self.stamp = size, stamp
        self._stream: OneWay | None = None
        self._position, self._ended = 0, False

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only at the end; a smaller `start` than before reopens the stream.

        Raises ShardUnreadable if the stream cannot be opened, or breaks off again and again.
        """
        try:
            return self._retry.call(lambda: self._read(start, length), self._pause)
        except ShardError:
            raise
        except Exception as error:
            raise unreadable(self._url, start, length, error) from error

    def _read(self, start: int, length: int) -> bytes:
        try:
            if self._stream is None or start < self._position:
                self.close()
                self._stream, self._position, self._ended = self._reopen(), 0, False
            while self._position < start:
                if not self._take(min(start - self._position, 1 << 20)):
                    return b""
            chunks = []
            while length > 0 and (chunk := self._take(length)):
                chunks.append(chunk)
                length -= len(chunk)
            return b"".join(chunks)
        except Exception:
            self.close()  # after an error the position of the stream is unknown
            raise

    def _take(self, length: int) -> bytes:
        assert self._stream is not None
        chunk = b"" if self._ended else self._stream.read(length)  # asked again, a client may warn of an endless loop
        self._ended = not chunk
        self._position += len(chunk)
        return chunk

    def mapped(self) -> None:
        """None: a stream cannot be mapped."""

    def close(self) -> None:
        """Close the stream; a later read opens it again."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None
