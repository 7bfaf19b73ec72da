"""Opens shards by the scheme of their URL, with the user's settings for requests."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.errors import RangesUnsupported, ShardMissing
from adaptive_sampler.shards.sources.base import Retry, Source
from adaptive_sampler.shards.sources.failures import pause
from adaptive_sampler.shards.sources.local import LocalSource
from adaptive_sampler.shards.sources.pace import WIDE, pace_of
from adaptive_sampler.shards.sources.remote import RemoteSource
from adaptive_sampler.shards.sources.stream import StreamSource

BLOCK = 512  # bytes of a tar header
HEADER_BYTES = 2048  # read at a time: holds the three header blocks of a PAX member, and little of its body
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Access:
    """How shards are opened and requests are made.

    strict_ranges: refuse a server without byte ranges, instead of receiving whole shards and discarding most of them.
    retry: what happens when a request fails.
    header_bytes: how many bytes a request asks for while a remote shard is indexed, at least 512. None: large pieces where
    the first headers lie closer together than an answer of the server is long, as measured; else little more than headers.
    etags: whether a shard with another ETag is another shard. False is for an origin of several machines that give one
    file different ETags: then a shard's size and modification time tell whether it has changed.
    options: credentials, endpoint and the like, by the names of obstore's class for the URL's scheme (S3Store, GCSStore,
    AzureStore, HTTPStore): what is not given comes from the environment.
    io_threads: how many requests of a reader are under way at most, each on a connection of its own. It starts with 8, and
    takes more the longer the server lets wait.
    max_in_flight: bytes that a reader has asked for and not yet delivered, beyond one request of up to 2 MiB, or of a larger
    sample.
    Raises InvalidValue for less than a header, than one thread or than one byte.
    """

    strict_ranges: bool = False
    retry: Retry = Retry()
    header_bytes: int | None = None
    etags: bool = True
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)  # it may hold secrets
    io_threads: int = WIDE
    max_in_flight: int = 64 << 20

    def __post_init__(self) -> None:
        if self.header_bytes is not None and self.header_bytes < BLOCK:
            raise InvalidValue(f"header_bytes={self.header_bytes}: a tar header has {BLOCK}; ask for that or more.")
        if self.io_threads < 1 or self.max_in_flight < 1:
            raise InvalidValue(
                f"Access(io_threads={self.io_threads}, max_in_flight={self.max_in_flight}): at least one request is under "
                "way, and one byte."
            )

    @staticmethod
    def is_local(url: str) -> bool:
        """Whether `url` is a path, or a file:// URL."""
        return "://" not in url or url.startswith("file:")

    def open(self, url: str | os.PathLike[str], known: str = "") -> Source:
        """Open the shard at `url`. known: its stamp in an index, whose ETag counts if the server tells none.

        Raises ShardMissing if it cannot be opened, is a folder or a Git LFS pointer, ShardUnsupported if it is sent
        compressed, RangesUnsupported if `strict_ranges` forbids its server, InvalidValue for a pipe or an unknown
        scheme, and ImportError if a library that the scheme needs is not installed.
        """
        url = os.fspath(url)
        if url.startswith("pipe:") or url == "-":
            raise InvalidValue(
                f"{url}: a pipe has no offsets to read at. Index the file behind it, or use `selected` on the stream."
            )
        source = self._source(url, known)
        if source.size is not None and source.size < BLOCK and source.read(0, BLOCK).startswith(_POINTER):
            source.close()
            raise ShardMissing(
                f"{url}: is a Git LFS pointer, and the shard that it points to is not here. Run `git lfs pull` where "
                "the files lie; a handler that returns True goes on without it."
            )
        return source

    def expected(self, url: str, known: str) -> RemoteSource | None:
        """The shard at `url`, of which an index has the stamp `known`, before anything was asked of its server.

        Its first read opens it, and raises what `open` does, but may raise ShardChanged for what is no shard any more. None
        for a local shard, and unless the server has served ranges to this process, and nothing else: then only `open` knows how
        to read it.
        """
        if self.is_local(url):
            return None
        pace = pace_of(url)
        if pace.whole or not pace.latency:
            return None
        return RemoteSource(url, self.retry, etags=self.etags, options=self.options, known=known)

    def _source(self, url: str, known: str) -> Source:
        if self.is_local(url):
            return LocalSource(url)
        source = RemoteSource(url, self.retry, etags=self.etags, options=self.options, known=known)
        source.open()
        if source.ranges:
            return source
        if self.strict_ranges:
            raise RangesUnsupported(
                f"{url}: the server answers a byte range with the whole file. Serve the shards from one that knows "
                "ranges, or leave strict_ranges off to receive everything and discard."
            )
        return StreamSource(url, source.whole, source.size, source.stamp, self.retry, pause)
