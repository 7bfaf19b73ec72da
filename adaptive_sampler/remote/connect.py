"""Opens the store that a URL lies in: a web server, S3, Google Cloud Storage, Azure, or this process's memory."""

import base64
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.remote.forked import Forked

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = {
    **dict.fromkeys(("http", "https"), "HTTPStore"),
    **dict.fromkeys(("s3", "s3a"), "S3Store"),
    "gs": "GCSStore",
    **dict.fromkeys(("az", "azure", "adl", "abfs", "abfss"), "AzureStore"),
    "memory": "MemoryStore",
}
"""Scheme of a URL -> obstore's class for it."""

_CACHED = 64  # stores kept; each has connections of its own
_CLIENT = {"timeout": "1d", "read_timeout": "60s"}  # a large object may take long, as long as bytes keep coming
_PLAIN = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]*")  # what obstore sends as it is written
_READ = ("AWS_", "GOOGLE_", "AZURE_")  # how the variables of the environment begin that obstore reads
_ENDPOINTS = ("endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url", "azure_storage_endpoint")


def connect(
    url: str, options: Mapping[str, Any] | None = None, *, retry: Mapping[str, Any] | None = None
) -> tuple["ObjectStore", str]:
    """(obstore's store, the path within it) of `url`. Equal calls in one process get the same store and its connections.

    options: what obstore's class for the scheme takes: credentials and endpoint by their names there, `client_options` and
    `credential_provider`. What is not given comes from the environment: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_REGION,
    GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, …. An endpoint of http:// is allowed.
    retry: obstore's retry_config; None: its own, ten tries within three minutes.

    A URL of http or https that has a query, or letters that obstore would write otherwise, is sent as it is: it is a
    store of its own, with an empty path. A store must be used by its methods (store.get, store.put_async), and only in the
    process that called `connect`: after a fork call it again, which loads obstore anew. Stores of memory:// are the process's.

    Raises InvalidValue for an unknown scheme, a URL without a bucket or host, a path that no object store has, and
    options that obstore does not know; ImportError if obstore is not installed.
    """
    url, user = without_user(url)
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() not in SCHEMES:
        what, known = scheme + mark if mark else "it", ", ".join(SCHEMES)
        raise InvalidValue(f"{url}: nothing is known that reads {what}. Give a local path, or a URL of {known}.")
    scheme = scheme.lower()
    where, path = _parted(url, scheme, rest)
    if not isinstance(options, Mapping | None) or not all(isinstance(option, str) for option in options or ()):
        raise InvalidValue(
            f"{url}: its options are no mapping of names to values. Write options={{'aws_region': '…'}}."
        )
    return _STORES.get(where, scheme, with_user(options or {}, user), retry), path


def without_user(url: str) -> tuple[str, dict[str, str]]:
    """A web server's URL without `user:password@`, which obstore drops, and the header that says the same. Others are as given."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    user, at, host = host.rpartition("@")
    if scheme.lower() not in ("http", "https") or not at or "?" in user or "#" in user:
        return url, {}
    word = base64.b64encode(unquote_to_bytes(user if ":" in user else f"{user}:")).decode()
    return f"{scheme}://{host}{slash}{path}", {"Authorization": f"Basic {word}"}


def with_user(options: Mapping[str, Any], user: Mapping[str, str]) -> Mapping[str, Any]:
    """The options with the header that says who asks, as of `without_user`, unless they have it."""
    if not user:
        return options
    client = dict(options.get("client_options", {}))
    return {**options, "client_options": {**client, "default_headers": {**user, **client.get("default_headers", {})}}}


def _parted(url: str, scheme: str, rest: str) -> tuple[str, str]:
    """The URL of the store, and the path in it."""
    host, _, path = rest.partition("/")
    web = scheme in ("http", "https")
    if not host or (web and host[:1] in "?#"):
        what = "host" if web else "bucket" if SCHEMES[scheme] != "AzureStore" else "container"
        raise InvalidValue(f"{url}: names no {what}. Write {scheme}://{what}/path.")
    parts = path.removesuffix("/").split("/")
    odd = "" in parts[1:] or (path and not parts[0]) or "." in parts or ".." in parts
    if web and (odd or not path or path.endswith("/") or "?" in host or not _PLAIN.fullmatch(path)):
        return f"{scheme}://{rest}", ""
    if odd:
        raise InvalidValue(
            f"{url}: has an empty part, '.' or '..' in its path, which obstore would drop. Use another key."
        )
    return f"{scheme}://{host}", path.removesuffix("/")


class _Stores:
    """The stores of this process, the ones used last."""

    def __init__(self) -> None:
        self._forked = Forked()
        self._lock, self._kept = threading.Lock(), OrderedDict[tuple[str, ...], Any]()
        self._of_parents: list[Any] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # They are kept, as a store that ends closes its connections, and waits for ever for a lock that another thread had in the
        # parent. The lock here is a new one for the same reason.
        self._of_parents.append(self._kept)
        self._lock, self._kept = threading.Lock(), OrderedDict[tuple[str, ...], Any]()

    def get(self, where: str, scheme: str, options: Mapping[str, Any], retry: Mapping[str, Any] | None) -> Any:
        """The store at `where`, made at the first call."""
        named = scheme != "memory"  # of which there is one, whatever the options and the environment
        # Part of the name, because credentials may change.
        given = sorted((name, value) for name, value in os.environ.items() if name.startswith(_READ))
        name = (where, *((repr(sorted(options.items())), repr(retry), repr(given)) if named else ()))
        with self._lock:
            if name not in self._kept:
                self._kept[name] = self._made(where, scheme, options, retry)
            self._kept.move_to_end(name)
            for old in [old for old in self._kept if not old[0].startswith("memory:")][:-_CACHED]:
                del self._kept[old]
            return self._kept[name]

    def _made(self, where: str, scheme: str, options: Mapping[str, Any], retry: Mapping[str, Any] | None) -> Any:
        try:
            self._forked.renew()
            import obstore.store as classes
        except ImportError as error:
            raise ImportError(
                f'{where}: needs obstore, which is not installed: pip install "adaptive-sampler[cloud]"', name="obstore"
            ) from error
        make = getattr(classes, SCHEMES[scheme])
        if scheme == "memory":
            return make()
        own = dict(options)
        insecure = {"allow_http": True} if _insecure(scheme, own) else {}  # else the environment may still allow it
        more = {} if retry is None else {"retry_config": retry}
        try:
            client = {**_CLIENT, **insecure, **own.pop("client_options", {})}
            return make.from_url(where, client_options=client, **more, **own)
        except BaseException as error:  # obstore's own errors share no base with its ValueError and TypeError
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            told = str(error).partition("\n")[0]
            raise InvalidValue(
                f"{where}: obstore does not take it with the options {sorted(options)}: {told} See {make.__name__} in obstore's "
                "documentation, and the environment variables that it reads."
            ) from error


def is_panic(error: BaseException) -> bool:
    """Whether obstore gave up where it should have raised, at some wrong options; that is no `Exception`, and has no name."""
    return type(error).__name__ == "PanicException"


def _insecure(scheme: str, options: Mapping[str, Any]) -> bool:
    """Whether the server is asked without TLS: at an http:// URL or endpoint."""
    given = [str(options[name]) for name in _ENDPOINTS if name in options]
    found = [os.environ[name.upper()] for name in _ENDPOINTS if name.upper() in os.environ]
    return scheme == "http" or any(endpoint.startswith("http://") for endpoint in (given or found)[:1])


_STORES = _Stores()
