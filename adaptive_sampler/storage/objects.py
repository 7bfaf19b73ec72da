"""A storage in an object store: one object per name, copies by the server, and a conditional put for the pointer."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive_sampler.errors import PointerMoved, StoreError
from adaptive_sampler.remote.objects import Objects
from adaptive_sampler.storage.base import POINTER
from adaptive_sampler.storage.object_lease import HOLDS, NoHold, ObjectHold, ObjectLease, held

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

THREADS = 16  # requests in flight at once: a request waits for the server, and needs no core
WEB = ("http://", "https://")


class ObjectStorage:
    """What lies below a URL of S3, Google Cloud Storage or Azure; below one of a web server, to read.

    Objects are written whole or not at all by their servers, and are durable once they are written. `options`: as for
    `remote.connect.connect`; they are sent along to other processes.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self._objects = Objects(url, options)
        self._web = url.startswith(WEB)
        self._pool: ThreadPoolExecutor | None = None
        self._begun: list[Future[None]] = []

    @property
    def where(self) -> str:
        return self._objects.url

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        self._begin(self._objects.put, name, parts)

    def share(self, source: str, target: str) -> None:
        self._begin(self._objects.copy, source, target)

    def _begin(self, request: Callable[..., None], *arguments: Any) -> None:
        """Send a request without waiting for the answer, which `flush` does."""
        self._check_writable()
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # imported late: only a commit needs it

            self._pool = ThreadPoolExecutor(THREADS, "adaptive-sampler-commit")
        self._begun.append(self._pool.submit(request, *arguments))

    def get(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self._objects.get(name, start, stop)

    def flush(self) -> None:
        if self._pool is None:
            return
        pool, begun, self._pool, self._begun = self._pool, self._begun, None, []
        pool.shutdown()  # no thread may stay: forking a process with threads is not safe
        for request in begun:
            request.result()

    def pointer(self) -> bytes | None:
        found = self._objects.read(POINTER)
        return None if found is None else found.data

    def swing(self, value: bytes, *, expected: bytes | None) -> None:
        self._check_writable()
        found = self._objects.read(POINTER)
        if (None if found is None else found.data) != expected:
            raise PointerMoved.at(self.where)
        if self._objects.swap(POINTER, value, None if found is None else found.token) is None:
            raise PointerMoved.at(self.where)

    def names(self, prefix: str = "") -> list[str]:
        if self._web:
            return self._names_of_web(prefix)
        return [name for name in self._objects.names(prefix) if prefix or name != HOLDS]

    def _names_of_web(self, prefix: str) -> list[str]:
        """What can be known of a place whose server lists nothing."""
        if prefix:
            raise StoreError(
                f"{self.where}: a web server does not list what lies in {prefix}. Name the place by s3://, gs:// or az://."
            )
        return [] if self.pointer() is None else [POINTER]

    def delete(self, prefix: str) -> None:
        self._check_writable()
        with contextlib.suppress(OSError):
            self.flush()  # finish what a failed commit has begun to write, or objects could appear after the deletion
        if not self.held(prefix):
            self._objects.remove([*self._objects.below(prefix)] or [prefix])

    def hold(self, prefix: str) -> ObjectHold | NoHold:
        if self._web:
            return NoHold(self._objects, prefix)
        return ObjectHold(self._objects, prefix)

    def held(self, prefix: str) -> bool:
        return held(self._objects, prefix)

    def lease(self, *, steal: bool = False) -> ObjectLease:
        self._check_writable()
        return ObjectLease(self._objects, steal=steal)

    def _check_writable(self) -> None:
        """Raise `StoreError` for a web server."""
        if self._web:
            raise StoreError(
                f"{self.where} is on a web server, where nothing can be written. Open it with mode='r', or name the place by "
                "s3://, gs:// or az://."
            )

    def __reduce__(self) -> tuple[type["ObjectStorage"], tuple[str, dict[str, Any]]]:
        return ObjectStorage, (self.where, self._objects.options)
