"""Reads shards over HTTP and from object stores through fsspec: byte ranges, retries, one session per process."""

import re
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from adaptive_sampler.shards.errors import RangesUnsupported, ShardChanged, WrongRange
from adaptive_sampler.shards.sources.base import Retry, Source, missing
from adaptive_sampler.shards.sources.stream import StreamSource

try:
    import fsspec
    import fsspec.asyn
except ImportError as error:
    raise ImportError(
        'Reading shards from a URL needs fsspec: pip install "adaptive-sampler[cloud]"', name="fsspec"
    ) from error

_MERGE_GAP = 128 * 1024  # bytes: 100 MB/s · 10 ms for an answer = 1 MB, divided by the 8 requests that run at a time
_PARALLEL = 8
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


def open_remote(url: str, retry: Retry, *, strict_ranges: bool) -> Source:
    """Open the shard at `url` with fsspec. Without byte ranges it is read as a stream.

    Raises ShardMissing, or RangesUnsupported if the server has no byte ranges and `strict_ranges` forbids a stream.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        return ObjectSource(url, retry)
    source = HttpSource(url, retry)
    if source.ranges:
        return source
    if strict_ranges:
        raise RangesUnsupported(
            f"{url}: the server answers a byte range with the whole file. Serve the shards from one that knows "
            "ranges, or leave strict_ranges off to receive everything and discard."
        )
    # fsspec does not ask the server for a size that is given. Block size 0 makes a forward-only file.
    return StreamSource(
        lambda: cast(BinaryIO, source.filesystem.open(url, block_size=0, size=source.size or 1)),
        source.size,
        source.stamp,
        retry,
        transient,
    )


def transient(error: Exception) -> bool:
    """Whether trying again may help: after a dropped connection, a time-out or overload, but not after 403 or 404."""
    if isinstance(error, WrongRange):
        return True  # the next answer may come from elsewhere
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return status in _TRANSIENT_STATUS
    if isinstance(error, FileNotFoundError | PermissionError | ShardChanged):
        return False
    # The connection errors of aiohttp and botocore share no base but Exception: they are recognised by their modules.
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith(("aiohttp", "botocore"))


class HttpSource:
    """A file on a web server, read through fsspec's session, whose connections all shards share."""

    parallel = _PARALLEL
    merge_gap: int | None = _MERGE_GAP

    def __init__(self, url: str, retry: Retry) -> None:
        self.url, self._retry = url, retry
        self.filesystem: Any = fsspec.filesystem(urlsplit(url).scheme)
        self.ranges = True
        self.size: int | None = None
        self.stamp = ""
        try:
            self.read(0, 1)
        except RangesUnsupported:
            self.ranges = False
        except WrongRange:
            raise
        except FileNotFoundError as error:
            raise missing(url, error) from error
        except Exception as error:
            if transient(error) or getattr(error, "status", None) is not None:
                raise missing(url, error) from error
            raise

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only at the end of the file.

        Raises ShardChanged if the file has changed since it was opened, RangesUnsupported if a range is not served.
        """

        def request() -> bytes:
            return cast(bytes, fsspec.asyn.sync(self.filesystem.loop, self._get, start, length))

        if length < 1 or (self.size is not None and start >= self.size):
            return b""
        return self._retry.call(request, transient)

    async def _get(self, start: int, length: int) -> bytes:
        session = await self.filesystem.set_session()
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        async with session.get(self.filesystem.encode_url(self.url), headers=headers) as response:
            if response.status == 404:
                raise FileNotFoundError(self.url)
            response.raise_for_status()
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if response.status != 206:
                total = response.headers.get("Content-Length", "")
            self._stamp(int(total) if total.isdecimal() else None, response.headers)
            if response.status != 206:  # leaving the block drops the connection before the body arrives
                raise RangesUnsupported(f"{self.url}: the server answers a byte range with the whole file.")
            body = cast(bytes, await response.read())
            self._check_range(start, length, response.headers.get("Content-Range", ""), len(body))
            return body

    def _check_range(self, start: int, length: int, told: str, received: int) -> None:
        """Raise WrongRange unless the server says that it sent the range asked for, and sent as many bytes."""
        stop = start + length if self.size is None else min(start + length, self.size)
        answered = re.fullmatch(r"bytes (\d+)-(\d+)/.*", told)
        if answered is None or answered.groups() != (str(start), str(stop - 1)) or received != stop - start:
            raise WrongRange(
                f"{self.url}: asked for bytes {start}-{stop - 1}, answered by {told or 'no Content-Range'!r} and {received} bytes. "
                "Where a proxy caches shards, make the range part of its key (nginx: slice and $slice_range), or take shards "
                "out of its cache."
            )

    def _stamp(self, size: int | None, headers: Any) -> None:
        mark = headers.get("ETag") or headers.get("Last-Modified") or "no etag"
        stamp = f"{size} bytes, {mark}"
        if self.stamp and stamp != self.stamp:
            raise ShardChanged(
                f"{self.url}: was {self.stamp} when opened and is {stamp} now. "
                "Build the index again once the shard is at rest."
            )
        self.size, self.stamp = size, stamp

    def mapped(self) -> None:
        """None: a remote file cannot be mapped."""

    def close(self) -> None:
        """Do nothing: the connections belong to fsspec's session, which uses them for the next shard."""


class ObjectSource:
    """A file in any store that fsspec knows (s3, gs, az, hf, memory, …); all of these serve byte ranges."""

    parallel = _PARALLEL
    merge_gap: int | None = _MERGE_GAP

    def __init__(self, url: str, retry: Retry) -> None:
        self._retry = retry
        self._filesystem: Any
        self._filesystem, self._path = fsspec.core.url_to_fs(url)
        try:
            info = retry.call(lambda: self._filesystem.info(self._path), transient)
        except FileNotFoundError as error:
            raise missing(url, error) from error
        self.size: int | None = info["size"]
        fields = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime", "created")
        mark = next((info[f] for f in fields if info.get(f)), "no etag")
        self.stamp = f"{self.size} bytes, {mark}"

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only at the end of the file."""
        stop = start + length if self.size is None else min(start + length, self.size)
        if stop <= start:
            return b""
        return cast(
            bytes,
            self._retry.call(lambda: self._filesystem.cat_file(self._path, start=start, end=stop), transient),
        )

    def mapped(self) -> None:
        """None: a remote file cannot be mapped."""

    def close(self) -> None:
        """Do nothing: fsspec keeps the connections for the next shard."""
