"""The objects below a URL, by name: read, written, copied, listed and deleted, one at a time, with errors in words."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.errors import Unreachable
from adaptive_sampler.remote.connect import connect, is_panic

MOST_AT_ONCE = 256 << 20  # bytes that are sent in one request; more go in parts, which a killed writer leaves behind
MOST_COPIED = 5 << 30  # bytes that S3 copies by itself
# How servers say that they do not know who asks; without credentials, obstore asks the machine itself for some.
DENIED = re.compile("Token|AccessKey|Signature|AccessDenied| 401 | 403 |/latest/api/token|169\\.254\\.169\\.254")
SECRET = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?<=[?&]sig=)[^&\s]+")  # what a request's URL may say of who asks
NONCE = "nonce"  # the attribute by which a writer knows its own conditional put again

Token = dict[str, Any]
"""What tells one state of an object from another: its ETag or, on Google Cloud Storage, its version."""


class Read(NamedTuple):
    """An object as it was read: its bytes, and the token of that state."""

    data: bytes
    token: Token


class About(NamedTuple):
    """When an object was last written, by the server's clock, and its size in bytes."""

    changed: datetime
    size: int


class Objects:
    """What lies below `url` in an object store, or on a web server, where objects can only be read.

    Any thread may use it, and a forked child, which gets connections of its own. `options`: as for `remote.connect.connect`.
    Every method raises `Unreachable`, an `OSError`, where the server does not answer, refuses, or has no such bucket.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        connect(url, options)  # so that a URL or an option that nobody takes is told at once
        self.url, self.options = url.rstrip("/"), dict(options or {})
        self._store: Any = None
        self._process, self._path = 0, ""

    def _connected(self) -> Any:
        if self._process != os.getpid():
            store, path = connect(self.url, self.options)
            self._store, self._path, self._process = store, path, os.getpid()
        return self._store

    def _at(self, name: str) -> str:
        return "/".join(part for part in (self._path, name) if part)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Bytes `start` … `stop` − 1 of an object (None: to its end), (size,) uint8; fewer if it ends before `stop`.

        Raises `FileNotFoundError` if there is no such object.
        """
        with self._told("read", name):
            store, options = self._connected(), {}
            if start or stop is not None:
                if start >= min(store.head(self._at(name))["size"], start + 1 if stop is None else stop):
                    return np.empty(0, np.uint8)  # servers refuse a range of no bytes
                options = {"options": {"range": {"offset": start} if stop is None else (start, stop)}}
            return np.frombuffer(store.get(self._at(name), **options).bytes(), np.uint8)

    def read(self, name: str) -> Read | None:
        """A small object and its token; None if there is none."""
        with contextlib.suppress(FileNotFoundError), self._told("read", name):
            found = self._connected().get(self._at(name))
            return Read(bytes(found.bytes()), _token(found.meta))
        return None

    def changed(self, name: str) -> datetime | None:
        """When an object was last written, by the server's clock; None if there is none."""
        with contextlib.suppress(FileNotFoundError), self._told("read", name):
            when: datetime = self._connected().head(self._at(name))["last_modified"]
            return when
        return None

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        """Write the concatenated `parts` as an object, whole or not at all."""
        octets = [np.frombuffer(p, np.uint8) if isinstance(p, bytes) else _octets(p) for p in parts]
        whole = octets[0] if len(octets) == 1 else np.concatenate([*octets, np.empty(0, np.uint8)])
        with self._told("written", name), _no_bucket():
            self._connected().put(self._at(name), whole, use_multipart=len(whole) > MOST_AT_ONCE)

    def swap(self, name: str, data: bytes, seen: Token | None) -> Token | None:
        """Write a small object if it is still in the state `seen` (None: if there is none). Returns its new token.

        Returns None, and changes nothing, if it is in another state. The answer to a put may be lost after the put was done,
        and the client then tries again by itself: a nonce tells whether what is there now was written by this call.
        """
        nonce = uuid.uuid4().hex
        with self._told("written", name), _no_bucket():
            store = self._connected()
            try:
                mode = "create" if seen is None else seen
                return _token(store.put(self._at(name), data, mode=mode, attributes={NONCE: nonce}))
            except Exception as error:
                if (ours := self._written_by(name, nonce)) is not None:
                    return ours
                if type(error).__name__ in ("AlreadyExistsError", "PreconditionError") or _vanished(error, seen):
                    return None
                raise

    def _written_by(self, name: str, nonce: str) -> Token | None:
        """The token of an object if it carries this nonce, else None."""
        with contextlib.suppress(Exception):  # the error that led here is the one to tell
            found = self._connected().get(self._at(name))
            if found.attributes.get(NONCE) == nonce:
                return _token(found.meta)
        return None

    def copy(self, source: str, target: str) -> None:
        """Make an object `target` of the same bytes; the server does it. Raises `FileNotFoundError` without a `source`."""
        with self._told("copied", source):
            store = self._connected()
            try:
                store.copy(self._at(source), self._at(target))
                return
            except FileNotFoundError:
                raise
            except Exception:
                if store.head(self._at(source))["size"] < MOST_COPIED:
                    raise
        self.put(target, [self.get(source)])

    def names(self, prefix: str = "") -> list[str]:
        """The first path component after `prefix` of the name of every object below it, sorted, without repeats."""
        with self._told("listed", prefix):
            store, below = self._connected(), self._at(prefix)
            found = store.list_with_delimiter(below or None)
            paths = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
            names = {path.removeprefix(below).strip("/").split("/")[0] for path in paths}
            return sorted(names - {""})  # an object that stands for the prefix as a folder, as consoles make them

    def below(self, prefix: str) -> dict[str, About]:
        """What is known of every object below `prefix`, by its name."""
        with self._told("listed", prefix):
            start = len(self._path) + 1 if self._path else 0
            listed = self._connected().list(self._at(prefix))
            return {one["path"][start:]: About(one["last_modified"], one["size"]) for some in listed for one in some}

    def remove(self, names: Sequence[str]) -> None:
        """Delete these objects, as far as they are there."""
        with self._told("deleted", names[0] if names else ""), contextlib.suppress(FileNotFoundError):
            if names:
                self._connected().delete([self._at(name) for name in names])

    @contextlib.contextmanager
    def _told(self, what: str, name: str) -> Iterator[None]:
        """Raise what obstore raises in the block as an error that names the object, the rule and the remedy."""
        place = f"{self.url}/{name}" if name else self.url
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{place} is not there") from error
        except BaseException as error:
            theirs = isinstance(error, (OSError, ValueError, NotImplementedError, _base())) or is_panic(error)
            if isinstance(error, Unreachable) or not theirs:
                raise
            self._process = 0  # the next request looks again into the environment, which may have new credentials
            words = _in_words(error)
            told = SECRET.sub("…", words)
            raise Unreachable(f"{place} cannot be {what}: {told}") from (error if told == words else None)


@contextlib.contextmanager
def _no_bucket() -> Iterator[None]:
    """Whoever writes needs nothing to be there but the bucket."""
    try:
        yield
    except FileNotFoundError as error:
        raise OSError("<Code>NoSuchBucket</Code>") from error


def _base() -> type[Exception]:
    """The base of obstore's errors, which is another class after a fork."""
    from obstore.exceptions import BaseError

    return BaseError


def _octets(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _token(meta: Mapping[str, Any]) -> Token:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}


def _vanished(error: Exception, seen: Token | None) -> bool:
    """Whether an object that was to be replaced was deleted meanwhile."""
    return seen is not None and isinstance(error, FileNotFoundError)


def _in_words(error: BaseException) -> str:
    """What a server refused, and the remedy, in a sentence each."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    told = (code[1] if code else text.partition("\n")[0]).strip().rstrip(":.")
    if (code is not None and code[1] in ("NoSuchBucket", "ContainerNotFound")) or "bucket does not exist" in text:
        return f"there is no such bucket ({told}). Make the bucket first, or name another one."
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError") or DENIED.search(
        code[0] if code else told
    ):
        return (
            f"the credentials are missing, have expired or do not suffice ({told}). They come from options= and the "
            "environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, GOOGLE_APPLICATION_CREDENTIALS, "
            "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY."
        )
    return f"{told}. Try again when the server answers; options= and the environment say where it is."
