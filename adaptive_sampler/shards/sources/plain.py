"""One HTTP request by the standard library, for what obstore 0.12.1 does not show.

That is Retry-After, and of an answer that it refuses all headers: a Content-Range without a size, one beside status 416, a
whole file in place of a range, its type; and a file without Content-Length, which it does not read at all.
"""

import functools
import http.client
import math
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

_OF_WHO_ASKS = ("Authorization", "Cookie", "Proxy-authorization")  # headers, as urllib writes them


class Refused(Exception):
    """An answer that is neither the file nor a range of it. wait: its Retry-After, or ""."""

    def __init__(self, status: int, reason: str, wait: str) -> None:
        later = f" (Retry-After: {wait})" if wait else ""
        super().__init__(f"status {status} {reason}{later}, neither the file nor a range of it")
        self.status, self.wait = status, wait


class Answer:
    """A server's answer, whatever its status. longest: seconds that its body may take."""

    def __init__(self, response: Any, longest: float = math.inf) -> None:
        self._response, self._longest, self._end = response, longest, time.monotonic() + longest
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self._left = int(self.header("Content-Length")) if self.header("Content-Length").isdecimal() else None

    def header(self, name: str) -> str:
        """A header, "" if there is none."""
        return str(self.headers.get(name) or "").strip()

    @property
    def ranged(self) -> bool:
        """Whether the answer speaks of a range."""
        return self.status in (206, 416)

    def expect_file(self) -> None:
        """Raise Refused unless the answer has the file, a range of it, or says that the range has no bytes."""
        if self.status not in (200, 203, 206, 416):
            raise Refused(self.status, self._response.reason, self.header("Retry-After"))

    def read(self, length: int) -> bytes:
        """Up to `length` of the next bytes, none at the end.

        Raises ConnectionError if the connection is cut before, TimeoutError if the body takes too long.
        """
        if time.monotonic() > self._end:
            raise TimeoutError(f"the answer had not ended after {self._longest} s")
        try:
            data: bytes = self._response.read1(length)
        except http.client.HTTPException as error:
            raise ConnectionError(f"the answer is cut off: {error!r}") from error
        if self._left is not None:
            self._left -= len(data)
            if not data and length and self._left > 0:  # http.client says nothing of it
                raise ConnectionError(f"the answer is cut off: {self._left} bytes of it are missing")
        return data

    def close(self) -> None:
        """Drop the connection, and what has not arrived."""
        self._response.close()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects as obstore does: another server is not told who asks."""

    def redirect_request(self, request: urllib.request.Request, *answer: Any) -> urllib.request.Request | None:
        """The request for the address that a redirect names; None if it is not to be followed."""
        following = super().redirect_request(request, *answer)
        if following is not None and (following.type, following.host) != (request.type, request.host):
            for name in _OF_WHO_ASKS:
                following.remove_header(name)
        return following


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects)


def ask(url: str, silence: float, headers: Mapping[str, str], longest: float = math.inf) -> Answer:
    """Ask for `url`, sent as it is given unless it has letters that no URL has. Redirects are followed; another server is given
    no headers that say who asks.

    silence: seconds without a byte after which TimeoutError is raised. longest: seconds of the whole body.
    Raises OSError if there is no answer.
    """
    sent = quote(url, safe="!#$%&'()*+,/:;=?@[]^|~")
    request = urllib.request.Request(sent, headers={"Accept-Encoding": "identity", **headers})
    try:
        return Answer(_opener().open(request, timeout=silence), longest)
    except urllib.error.HTTPError as answer:
        return Answer(answer, longest)
    except http.client.HTTPException as error:  # no HTTP at all, or none to the end
        raise ConnectionError(f"no answer in HTTP: {error!r}") from error


@contextmanager
def asked(url: str, silence: float, headers: Mapping[str, str], longest: float) -> Iterator[Answer]:
    """The same, for a block."""
    answer = ask(url, silence, headers, longest)
    try:
        yield answer
    finally:
        answer.close()
