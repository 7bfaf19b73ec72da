"""A storage in an object store: one object per name, copies by the server, and a conditional put for the pointer."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive_sampler.disk import nbytes
from adaptive_sampler.errors import PointerMoved, StoreError
from adaptive_sampler.remote.objects import Objects, Read
from adaptive_sampler.storage.base import POINTER
from adaptive_sampler.storage.object_lease import HOLDS, NoHold, ObjectHold, ObjectLease, held
from adaptive_sampler.storage.object_links import LINKS, THREADS, Links

if TYPE_CHECKING:
    from adaptive_sampler.storage.writers import WritesAhead

AHEAD = 64 << 20  # bytes that may be on their way: as many chunks of 4-byte numbers as `THREADS` requests send at once
WEB = ("http://", "https://")


class ObjectStorage:
    """What lies below a URL of S3, Google Cloud Storage or Azure; below one of a web server, to read.

    Objects are written whole or not at all by their servers, and are durable once they are written. `options`: as for
    `remote.connect.connect`; they are sent along to other processes.
    """

    at_once = THREADS  # objects that are read at a time

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self._objects = Objects(url, options)
        self._links = Links(self._objects)
        self._web = url.startswith(WEB)
        self._pointer: Read | None = None  # as it was last read or written here
        self._ahead: WritesAhead | None = None

    @property
    def where(self) -> str:
        return self._objects.url

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        self._check_writable()
        self._links.wrote(name)
        if self._ahead is None:
            from adaptive_sampler.storage.writers import (
                WritesAhead,  # imported late: only a commit of several files needs it
            )

            self._ahead = WritesAhead(THREADS, AHEAD)
        self._ahead.add(nbytes(parts), self._objects.put, name, parts)

    def share(self, source: str, target: str) -> None:
        self._check_writable()
        self._links.add(source, target)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        with contextlib.suppress(FileNotFoundError):
            return self._objects.get(name, start, stop)
        with contextlib.suppress(FileNotFoundError):
            if not self._web and (source := self._links.source(name)) is not None:
                return self._objects.get(source, start, stop)
        return self._objects.get(name, start, stop)  # it was copied meanwhile, and its source deleted

    def flush(self) -> None:
        ahead, self._ahead = self._ahead, None
        try:
            self._links.flush()  # while the others are on their way
            if ahead is not None:
                ahead.finish()
        finally:
            self._links.forget()  # of what failed nothing may come later
            if ahead is not None:
                ahead.close()

    def pointer(self) -> bytes | None:
        self._pointer = self._objects.read(POINTER)
        return None if self._pointer is None else self._pointer.data

    def swing(self, value: bytes, *, expected: bytes | None) -> None:
        self._check_writable()
        known = self._pointer
        if known is None or known.data != expected:
            self.pointer()
            known = self._pointer
        if (None if known is None else known.data) != expected:
            raise PointerMoved.at(self.where)
        token = self._objects.swap(POINTER, value, None if known is None else known.token)
        if token is None:
            raise PointerMoved.at(self.where)
        self._pointer = Read(value, token)
        self._links.settle_behind()

    def settle(self) -> None:
        """Wait until every object that stands for another one is a copy of it, and any client reads what was committed."""
        self._links.settle()

    def names(self, prefix: str = "") -> list[str]:
        if self._web:
            return self._names_of_web(prefix)
        found = set(self._objects.names(prefix))
        if not prefix:
            return sorted((found | self._links.groups()) - {HOLDS, LINKS})
        return sorted(found | {name.removeprefix(f"{prefix}/").split("/")[0] for name in self._links.below(prefix)})

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
        if not self.held(prefix) and not self._links.needed(prefix):
            self._links.drop(prefix)
            self._objects.remove([*self._objects.below(prefix)] or [prefix])

    def hold(self, prefix: str) -> ObjectHold | NoHold:
        if self._web:
            return NoHold(self._objects, prefix)
        return ObjectHold(self._objects, prefix)

    def held(self, prefix: str) -> bool:
        return held(self._objects, prefix)

    def lease(self, *, steal: bool = False) -> ObjectLease:
        self._check_writable()
        lease = ObjectLease(self._objects, steal=steal, last=self._links.leave)
        try:
            self._links.load()
        except BaseException:
            lease.release()
            raise
        return lease

    def _check_writable(self) -> None:
        """Raise `StoreError` for a web server."""
        if self._web:
            raise StoreError(
                f"{self.where} is on a web server, where nothing can be written. Open it with mode='r', or name the place by "
                "s3://, gs:// or az://."
            )

    def __reduce__(self) -> tuple[type["ObjectStorage"], tuple[str, dict[str, Any]]]:
        return ObjectStorage, (self.where, self._objects.options)
