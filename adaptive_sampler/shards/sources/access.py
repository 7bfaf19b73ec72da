"""How shards are opened: by the scheme of their URL, with what a user says of requests."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.sources.base import Retry, Source
from adaptive_sampler.shards.sources.local import LocalSource

BLOCK = 512  # bytes of a tar header
HEADER_BYTES = 2048  # a PAX member's three headers come with one read; hardly any body does


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
        from adaptive_sampler.shards.sources.remote import open_remote

        return open_remote(url, self.retry, strict_ranges=self.strict_ranges)
