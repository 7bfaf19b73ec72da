"""Reads shards over HTTP and from object stores by obstore: byte ranges, each of which is compared with what was asked."""

import os
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any, cast

from adaptive_sampler.remote.connect import connect, with_user, without_user
from adaptive_sampler.shards.errors import (
    RangesUnsupported,
    ShardChanged,
    ShardError,
    ShardMissing,
    ShardUnsupported,
    WrongRange,
)
from adaptive_sampler.shards.sources.answers import body_of, wrong
from adaptive_sampler.shards.sources.base import (
    Retry,
    changed,
    fuller,
    missing,
    same_stamp,
    stamp_of,
    unreadable,
)
from adaptive_sampler.shards.sources.failures import (
    RAN_OUT,
    expect_no_page,
    no_shard,
    of_obstore,
    pause,
    ran_out,
    remedy,
    status_of,
    unanswered,
)
from adaptive_sampler.shards.sources.pace import pace_of
from adaptive_sampler.shards.sources.plain import Answer, ask, asked

_WEB = ("http://", "https://")
_IDENTITY = {"Accept-Encoding": "identity"}
_ONCE = {
    "max_retries": 0
}  # what is tried again, and after how long, is decided here: obstore does not know Retry-After
_NO_LENGTH = "Content-Length Header missing"  # what obstore 0.12.1 says of an answer without
_AT_ONCE = 32 << 20  # bytes: more is asked for by several requests, each of which has its time


class RemoteSource:
    """A file on a web server or in an object store. All shards of a server share its connections.

    It is opened by `open`, or else by the first answer to `read`: that must be of the shard that `known` tells.

    No request carries If-Match: a strong comparison refuses the weak ETag that a proxy makes of a strong one. Instead the
    ETag, size and time of each answer are compared with those of the first. known: the stamp in an index; an ETag that is
    in it, or comes later, counts for an answer without one.
    """

    def __init__(self, url: str, retry: Retry, *, etags: bool, options: Mapping[str, Any], known: str = "") -> None:
        self.url, user = without_user(url)
        self._retry, self._etags, self._known = retry, etags, known
        self._looking = threading.Lock()
        self._web = url.lower().startswith(_WEB)
        options = with_user(options, user)
        client = dict(options.get("client_options", {}))
        self._headers = {**(_IDENTITY if self._web else {}), **client.get("default_headers", {})}
        times = {"read_timeout": timedelta(seconds=retry.silence), "timeout": timedelta(seconds=retry.longest)}
        client = {**times, **client, "default_headers": self._headers}
        self._options = {**options, "client_options": client}
        self._process, self._store, self._path = 0, cast(Any, None), ""
        self.ranges = True
        self.size: int | None = None
        self.stamp = ""
        self._said: tuple[Any, ...] = ()  # of the file, in the answer that was looked at last
        self._gone: ShardMissing | None = None  # what the first answer has shown, if no other one shows better
        self._lengthless = False  # whether its answers have no Content-Length, of which obstore reads none
        self._asked = False  # whether `open` was called: then its caller looks at the stamp
        self._pace = pace_of(url)

    def open(self) -> None:
        """Ask for a byte, whose answer tells the file's size and stamp, and whether there are `ranges`. See Access.open."""
        self._asked = True
        self._connect()
        if not self._web and (not self._path or self.url.endswith("/")):
            raise no_shard(self.url, "a folder or prefix")
        try:
            self._retry.call(lambda: self._request(0, 1), pause)
        except RangesUnsupported:
            self.ranges = False
        except ShardError:
            raise
        except Exception as error:
            raise self._missing(error) from error

    @property
    def parallel(self) -> int:
        """How many requests keep this server busy, as far as its answers have shown."""
        return self._pace.width

    @property
    def together(self) -> int:
        """How many requests one thread makes one after another, as far as this server's answers have shown."""
        return self._pace.together

    @property
    def merge_gap(self) -> int:
        """Bytes that come in the time that another request costs, as far as this server's answers have shown."""
        return self._pace.gap

    @property
    def lone_gap(self) -> int:
        """Bytes that come in the time of another request, as far as this server's answers have shown."""
        return self._pace.lone_gap

    def _connect(self) -> Any:
        """The store; after a fork another one."""
        if self._process != os.getpid():
            self._store, self._path = connect(self.url, self._options, retry=_ONCE)
            self._process = os.getpid()
        return self._store

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only at the end of the file.

        Raises ShardChanged if the file has changed since it was opened, RangesUnsupported if a range is not served,
        WrongRange if another one is, and ShardUnreadable if the server or the connection fails; ShardMissing if no answer has
        opened it.
        """
        if length < 1 or (self.size is not None and start >= self.size):
            return b""
        if self._gone is not None and not self.stamp:
            raise self._gone
        if length > _AT_ONCE:
            return b"".join(
                self.read(at, min(_AT_ONCE, start + length - at)) for at in range(start, start + length, _AT_ONCE)
            )
        try:
            return self._retry.call(lambda: self._request(start, length), pause)
        except ShardError:
            raise
        except Exception as error:
            if not self.stamp:
                self._gone = self._missing(error)
                raise self._gone from error
            if ran_out(error):
                raise unreadable(self.url, start, length, error, RAN_OUT) from error
            raise unreadable(self.url, start, length, error) from error

    def _request(self, start: int, length: int) -> bytes:
        stop = start + length if self.size is None else min(start + length, self.size)
        if self._lengthless:
            return self._plainly(start, stop - start)
        began = time.perf_counter()
        try:
            result = self._connect().get(self._path, options={"range": (start, stop)})
            answered = time.perf_counter()
            stop = min(stop, self._look_over(result))
            # A chunk of a byte more than was asked for: the whole body, or the beginning of one that is too long.
            data = next(result.stream(min_chunk_size=stop - start + 1), b"")
            if result.range != (start, stop) or len(data) != stop - start:
                told = f"bytes {result.range[0]}-{result.range[1] - 1}/{result.meta['size']}"
                raise wrong(self.url, start, stop - start, f"{told!r} and {len(data)} bytes")
            self._pace.note(answered - began, time.perf_counter() - answered, len(data))
            return data
        except Exception as error:
            unclear = of_obstore(error) and not unanswered(error) and status_of(error) not in (401, 403, 404)
            if not (self._web and unclear):
                return self._without(error, start, length)
            self._lengthless = _NO_LENGTH in str(error)
        return self._plainly(start, stop - start)

    def _look_over(self, result: Any) -> int:
        """Look at an answer of obstore, unless it says of the file what the one before it said. Returns the file's size."""
        meta, attributes = result.meta, result.attributes
        said = meta["size"], meta["e_tag"], meta["last_modified"], attributes.get("Content-Encoding", "")
        if said != self._said:
            self._look(said[0], _date(said[2]), said[1], said[3])
            self._said = said
        return int(said[0])

    def _without(self, error: Exception, start: int, length: int) -> bytes:
        """No bytes, if `error` says that an object store has none from `start` on."""
        if status_of(error) != 416 or (self.size is not None and start < self.size):
            raise error
        if not self.stamp:  # an empty object
            meta = self._connect().head(self._path)
            self._look(meta["size"], _date(meta["last_modified"]), meta["e_tag"], "")
        return b""

    def _plainly(self, start: int, length: int) -> bytes:
        """The same by the standard library, which shows what is wrong with an answer that obstore refuses."""
        headers = {**self._headers, "Range": f"bytes={start}-{start + length - 1}"}
        with asked(self.url, self._retry.silence, headers, self._retry.longest) as answer:
            answer.expect_file()
            told = answer.header("Content-Range")
            if answer.status == 416:
                return self._behind_end(start, length, answer)
            expect_no_page(self.url, answer)
            self._look_at(answer)
            if answer.status != 206:  # leaving the block drops the connection before the body arrives
                self._pace.whole = True
                raise RangesUnsupported(
                    f"{self.url}: the server answers a byte range with the whole file, after it has served ranges. Have every "
                    "machine behind this URL serve them; a handler that returns True goes on without what is lost."
                )
            at_most = self.size is None  # then a range that ends early ends with the file
            return body_of(answer.read, told, self.url, start, length, at_most=at_most)

    def whole(self) -> Answer:
        """The file as a stream that only goes forward. Raises ShardChanged as `read` does, and the client's errors."""
        answer = ask(self.url, self._retry.silence, self._headers)
        try:
            answer.expect_file()
            expect_no_page(self.url, answer)
            self._look_at(answer)
            if answer.ranged:
                told = answer.header("Content-Range") or "no Content-Range"
                raise WrongRange(
                    f"{self.url}: asked for the whole file, answered by {told!r}. Have every machine behind this URL serve "
                    "ranges, or none; a handler that returns True goes on without what is lost."
                )
        except Exception:
            answer.close()
            raise
        return answer

    def _behind_end(self, start: int, length: int, answer: Answer) -> bytes:
        """No bytes: status 416 says that there are none from `start` on.

        Raises ShardChanged if the file has another size than before, and WrongRange if it has bytes there all the same.
        """
        told = answer.header("Content-Range")
        size = told.rpartition("/")[2]
        if not self.stamp or (self.size is not None and size.isdecimal() and int(size) != self.size):
            self._look_at(answer)
        if self.size is None or start >= self.size:
            return b""
        raise wrong(self.url, start, length, f"status 416 and {told or 'no Content-Range'!r}")

    def _look_at(self, answer: Answer) -> None:
        told = answer.header("Content-Range").rpartition("/")[2] if answer.ranged else answer.header("Content-Length")
        self._look(
            int(told) if told.isdecimal() else None,
            answer.header("Last-Modified"),
            answer.header("ETag"),
            answer.header("Content-Encoding"),
        )

    def _look(self, size: int | None, modified: str, etag: str | None, coding: str) -> None:
        """Note the size and stamp that an answer tells. Raises ShardChanged if they are others than before."""
        if coding.strip().lower() not in ("", "identity"):
            raise ShardUnsupported(
                f"{self.url}: is sent compressed (Content-Encoding: {coding}), so that no byte has a fixed place. Serve "
                "the tar itself without that header, uncompressed; a handler that returns True goes on without it."
            )
        stamp = stamp_of(size, modified, etag if self._etags else None)
        with self._looking:
            if self.stamp and not same_stamp(stamp, self.stamp):
                raise ShardChanged(
                    f"{self.url}: was {self.stamp} when opened and is {stamp} now. Build the index again once the shard is "
                    "at rest; if the machines of one origin give it different ETags, pass Access(etags=False)."
                )
            if not (self.stamp or self._asked or same_stamp(stamp, self._known)):
                raise changed(self.url, self._known, stamp)
            if not self.stamp:
                self.size, self.stamp = size, stamp
                stamp = self._known if same_stamp(stamp, self._known) else stamp
            self.stamp = fuller(self.stamp, stamp)

    def _missing(self, error: Exception) -> ShardMissing:
        """The error for a shard that does not open."""
        if status_of(error) == 404 and not self._web and self._is_prefix():
            return no_shard(self.url, "a folder or prefix")
        return missing(self.url, error, remedy(error, web=self._web))

    def _is_prefix(self) -> bool:
        try:
            return any(len(some) for some in self._connect().list(self._path, chunk_size=1))
        except Exception:  # no bucket, or no leave to list: what is known already is told
            return False

    def mapped(self) -> None:
        """None: a remote file cannot be mapped."""

    def close(self) -> None:
        """Do nothing: the connections are kept for the next shard."""


def _date(modified: datetime) -> str:
    """A time as HTTP writes it, "" for the one that obstore gives where a server tells none."""
    return format_datetime(modified, usegmt=True) if modified.timestamp() else ""
