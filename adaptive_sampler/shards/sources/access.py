"""Opens shards by the scheme of their URL, with the user's settings for requests."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.sources.base import Retry, Source
from adaptive_sampler.shards.sources.local import LocalSource

BLOCK = 512  # bytes of a tar header
HEADER_BYTES = 2048  # read at a time: holds the three header blocks of a PAX member, and little of its body


@dataclass(frozen=True)
class Access:
    """How shards are opened and requests are made.

    strict_ranges: refuse a server without byte ranges, instead of receiving whole shards and discarding most of them.
    retry: what happens when a request fails.
    header_bytes: how many bytes a request asks for while a shard is indexed, at least 512. The default reads little
    more than the headers. A larger value saves requests if samples are small and the server answers slowly.
    """

    strict_ranges: bool = False
    retry: Retry = Retry()
    header_bytes: int = HEADER_BYTES

    def __post_init__(self) -> None:
        if self.header_bytes < BLOCK:
            raise InvalidValue(f"header_bytes={self.header_bytes}: a tar header has {BLOCK}; ask for that or more.")

    def open(self, url: str) -> Source:
        """Open the shard at `url`.

        Raises ShardMissing if it cannot be opened, RangesUnsupported if `strict_ranges` forbids its server, and
        InvalidValue for a pipe.
        """
        scheme = urlsplit(url).scheme
        if scheme == "pipe" or url == "-":
            raise InvalidValue(
                f"{url}: a pipe has no offsets to read at. Index the file behind it, or use `selected` on the stream."
            )
        if scheme in ("", "file"):
            return LocalSource(url)
        # Imported here, because it needs fsspec, which only the extra `cloud` installs.
        from adaptive_sampler.shards.sources.remote import open_remote

        return open_remote(url, self.retry, strict_ranges=self.strict_ranges)
