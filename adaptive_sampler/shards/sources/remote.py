"""Reads shards over HTTP and from object stores through fsspec: byte ranges, retries, one session per process."""

import errno
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, cast

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.errors import (
    RangesUnsupported,
    ShardChanged,
    ShardError,
    ShardMissing,
    ShardUnsupported,
    WrongRange,
)
from adaptive_sampler.shards.sources.answers import body_of, wrong
from adaptive_sampler.shards.sources.base import Retry, Source, missing, same_stamp, stamp_of, unreadable
from adaptive_sampler.shards.sources.stream import StreamSource

try:
    import aiohttp
    import fsspec
    import fsspec.asyn
except ImportError as error:
    raise ImportError(
        'Reading shards from a URL needs fsspec: pip install "adaptive-sampler[cloud]"', name="fsspec"
    ) from error

_MERGE_GAP = 128 * 1024  # bytes: 100 MB/s · 10 ms for an answer = 1 MB, divided by the 8 requests that run at a time
_PARALLEL = 8
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
_LASTING = FileNotFoundError | PermissionError | ShardError
_SIGN_IN = (
    "Give its library credentials that may read it (S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
)
_RENEW = "Give a URL that may be read: a signed one runs out, and a folder is no shard"


def open_remote(url: str, retry: Retry, *, strict_ranges: bool, etags: bool) -> Source:
    """Open the shard at `url` with fsspec. Without byte ranges it is read as a stream. See Access.open for errors."""
    scheme = url.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        raise InvalidValue(
            f"{url}: nothing is known that reads {scheme}://. Give a local path, or a URL of http, https, s3, gs or "
            "another scheme of fsspec."
        ) from error
    except ImportError as error:
        raise ImportError(f"{url}: {scheme}:// needs a library that is not here. {error}.", name=error.name) from error
    if scheme not in ("http", "https"):
        return ObjectSource(url, retry, etags=etags)
    source = HttpSource(url, retry, etags=etags)
    if source.ranges:
        return source
    if strict_ranges:
        raise RangesUnsupported(
            f"{url}: the server answers a byte range with the whole file. Serve the shards from one that knows "
            "ranges, or leave strict_ranges off to receive everything and discard."
        )
    return StreamSource(url, source.whole, source.size, source.stamp, retry, pause)


def pause(error: Exception) -> float | None:
    """The seconds to wait before trying again may help, as the server asks; 0 if it does not ask.

    None if trying again will not help: after 403 or 404, but not after a dropped connection, a time-out or overload.
    """
    if isinstance(error, WrongRange):
        return 0.0  # the next answer may come from elsewhere
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return _asked(getattr(error, "headers", None) or {}) if status in _TRANSIENT_STATUS else None
    if isinstance(error, _LASTING) or _lacks_credentials(error) or getattr(error, "errno", None) == errno.EINVAL:
        return None
    # The connection errors of aiohttp and botocore share no base but Exception: they are recognised by their modules.
    passing = isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith(("aiohttp", "botocore"))
    return 0.0 if passing else None


def _asked(headers: Mapping[str, str]) -> float:
    """The seconds of a Retry-After header, which has a number or a date; 0 if there is none."""
    told = headers.get("Retry-After", "").strip()
    if told.isdecimal():
        return float(told)
    try:
        until = parsedate_to_datetime(told)
    except (ValueError, OverflowError):
        return 0.0
    return max((until - datetime.now(UTC)).total_seconds(), 0.0) if until.tzinfo else 0.0


def _lacks_credentials(error: Exception) -> bool:
    return "Credentials" in type(error).__name__


def _no_shard(url: str, what: str) -> ShardMissing:
    return ShardMissing(
        f"{url}: is {what}, not a shard. Give the URLs of the shards themselves, as 'name-{{000..099}}.tar' or a list; a "
        "handler that returns True goes on without it."
    )


class HttpSource:
    """A file on a web server, read through fsspec's session, whose connections all shards share."""

    parallel = _PARALLEL
    merge_gap: int | None = _MERGE_GAP

    def __init__(self, url: str, retry: Retry, *, etags: bool) -> None:
        self.url, self._retry, self._etags = url, retry, etags
        # Quoted as given, also after a redirect: a server that has signed a URL's bytes knows no other spelling.
        self.filesystem: Any = fsspec.filesystem(
            url.partition("://")[0],
            encoded=url.isascii() and " " not in url,
            client_kwargs={
                "requote_redirect_url": False,
                "timeout": aiohttp.ClientTimeout(sock_connect=retry.silence, sock_read=retry.silence),
            },
        )
        self.ranges = True
        self.size: int | None = None
        self.stamp = ""
        try:
            self._retry.call(lambda: self._request(0, 1), pause)
        except RangesUnsupported:
            self.ranges = False
        except ShardError:
            raise
        except Exception as error:
            refused = getattr(error, "status", None) in (401, 403)
            raise (missing(url, error, _RENEW) if refused else missing(url, error)) from error

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only at the end of the file.

        Raises ShardChanged if the file has changed since it was opened, RangesUnsupported if a range is not served,
        WrongRange if another one is, and ShardUnreadable if the server or the connection fails.
        """
        if length < 1 or (self.size is not None and start >= self.size):
            return b""
        try:
            return self._retry.call(lambda: self._request(start, length), pause)
        except ShardError:
            raise
        except Exception as error:
            raise unreadable(self.url, start, length, error) from error

    def whole(self) -> BinaryIO:
        """The file as a stream that only goes forward. Raises ShardChanged as `read` does, and the client's errors."""
        # fsspec does not ask the server for a size that is given. Block size 0 makes a forward-only file.
        identity = {"Accept-Encoding": "identity"}
        stream = self.filesystem.open(self.url, block_size=0, size=self.size or 1, headers=identity)
        try:
            self._look(stream.r)
            if stream.r.status == 206:
                told = stream.r.headers.get("Content-Range", "no Content-Range")
                raise WrongRange(
                    f"{self.url}: asked for the whole file, answered by {told!r}. Have every machine behind this URL serve "
                    "ranges, or none; a handler that returns True goes on without what is lost."
                )
        except ShardError:
            stream.close()
            raise
        return cast(BinaryIO, stream)

    def _request(self, start: int, length: int) -> bytes:
        return cast(bytes, fsspec.asyn.sync(self.filesystem.loop, self._get, start, length))

    async def _get(self, start: int, length: int) -> bytes:
        session = await self.filesystem.set_session()
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        async with session.get(self.filesystem.encode_url(self.url), headers=headers) as response:
            if response.status == 404:
                raise FileNotFoundError(self.url)
            if response.status == 416:
                return self._behind_end(start, length, response)
            response.raise_for_status()
            if response.status not in (200, 203, 206):  # such as 304, or a redirect that names no place
                raise aiohttp.ClientResponseError(
                    response.request_info, (), status=response.status, message="neither the file nor a range of it"
                )
            self._look(response)
            if response.status != 206 and response.content_type == "text/html":
                raise _no_shard(self.url, "a web page (a folder's list of files, or a page to sign in)")
            if response.status != 206:  # leaving the block drops the connection before the body arrives
                raise RangesUnsupported(
                    f"{self.url}: the server answers a byte range with the whole file, after it has served ranges. Have every "
                    "machine behind this URL serve them; a handler that returns True goes on without what is lost."
                )
            if self.size is None:  # then a range that ends early ends with the file
                return await body_of(response, self.url, start, length, at_most=True)
            return await body_of(response, self.url, start, min(length, self.size - start))

    def _behind_end(self, start: int, length: int, response: Any) -> bytes:
        """No bytes: status 416 says that there are none from `start` on.

        Raises ShardChanged if the file has another size than before, and WrongRange if it has bytes there all the same.
        """
        told = response.headers.get("Content-Range", "")
        size = told.rpartition("/")[2]
        if not self.stamp or (self.size is not None and size.isdecimal() and int(size) != self.size):
            self._look(response)
        if self.size is None or start >= self.size:
            return b""
        raise wrong(self.url, start, length, f"status 416 and {told or 'no Content-Range'!r}")

    def _look(self, response: Any) -> None:
        """Note the size and stamp that an answer tells. Raises ShardChanged if they are others than before."""
        headers = response.headers
        coding = headers.get("Content-Encoding", "").strip()
        if coding.lower() not in ("", "identity"):
            raise ShardUnsupported(
                f"{self.url}: is sent compressed (Content-Encoding: {coding}), so that no byte has a fixed place. Serve "
                "the tar itself without that header, uncompressed; a handler that returns True goes on without it."
            )
        ranged = response.status in (206, 416)
        told = headers.get("Content-Range", "").rpartition("/")[2] if ranged else headers.get("Content-Length", "")
        size = int(told) if told.isdecimal() else None
        stamp = stamp_of(size, headers.get("Last-Modified"), headers.get("ETag") if self._etags else None)
        if self.stamp and not same_stamp(stamp, self.stamp):
            raise ShardChanged(
                f"{self.url}: was {self.stamp} when opened and is {stamp} now. Build the index again once the shard is "
                "at rest; if the machines of one origin give it different ETags, pass Access(etags=False)."
            )
        if not self.stamp:
            self.size, self.stamp = size, stamp

    def mapped(self) -> None:
        """None: a remote file cannot be mapped."""

    def close(self) -> None:
        """Do nothing: the connections belong to fsspec's session, which uses them for the next shard."""


class ObjectSource:
    """A file in any store that fsspec knows (s3, gs, az, hf, memory, …); all of these serve byte ranges."""

    parallel = _PARALLEL
    merge_gap: int | None = _MERGE_GAP

    def __init__(self, url: str, retry: Retry, *, etags: bool) -> None:
        self._url, self._retry = url, retry
        self._filesystem: Any
        try:
            self._filesystem, self._path = fsspec.core.url_to_fs(url)
            info = retry.call(lambda: self._filesystem.info(self._path), pause)
        except Exception as error:
            refused = isinstance(error, PermissionError) or _lacks_credentials(error)
            raise (missing(url, error, _SIGN_IN) if refused else missing(url, error)) from error
        if info.get("type") == "directory":
            raise _no_shard(url, "a folder or prefix")

        def first(*fields: str) -> Any:
            return next((info[f] for f in fields if info.get(f)), None)

        etag = first("ETag", "etag", "md5Hash", "generation")
        self.size: int | None = info["size"]
        self.stamp = stamp_of(
            self.size, first("LastModified", "last_modified", "mtime", "created"), etag if etags else None
        )

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only at the end of the file.

        Raises ShardUnreadable if the store or the connection fails.
        """
        stop = start + length if self.size is None else min(start + length, self.size)
        if stop <= start:
            return b""
        try:
            return cast(
                bytes, self._retry.call(lambda: self._filesystem.cat_file(self._path, start=start, end=stop), pause)
            )
        except Exception as error:
            raise unreadable(self._url, start, length, error) from error

    def mapped(self) -> None:
        """None: a remote file cannot be mapped."""

    def close(self) -> None:
        """Do nothing: fsspec keeps the connections for the next shard."""
