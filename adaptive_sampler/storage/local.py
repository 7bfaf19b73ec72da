"""A storage on a local disk: one file per object, hard links for what versions share, and a rename for the pointer."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adaptive_sampler.disk import sync, write_whole
from adaptive_sampler.errors import PointerMoved, StoreError
from adaptive_sampler.storage.base import LEASE, POINTER
from adaptive_sampler.storage.hold import LocalHold, unheld
from adaptive_sampler.storage.lock import WriterLock

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

THREADS = 8  # fsync waits for the disk and needs no core: with eight at once, a commit took half as long


class LocalStorage:
    """A folder. Files appear by a rename, so they are whole; `flush` and `swing` use fsync, so they are durable.

    `lasting=False` is for a folder that is deleted with its store: it saves the time for threads and fsync.
    """

    def __init__(self, path: str | os.PathLike[str], *, lasting: bool = True) -> None:
        self.path, self._lasting = Path(path).absolute(), lasting  # so that a later chdir does not move it
        self._changed: dict[Path, None] = {}  # folders with new entries, in order
        self._first: Callable[[], None] | None = None  # the first write; alone it needs no thread
        self._pool: ThreadPoolExecutor | None = None
        self._writing: list[Future[None]] = []

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        if not self._lasting:
            write_whole(self._new(name), parts, lasting=False)
            return
        write = partial(write_whole, self._new(name), parts)
        if self._first is None and self._pool is None:
            self._first = write
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # imported late: only a commit of several files needs it

            self._pool = ThreadPoolExecutor(THREADS, "adaptive-sampler-commit")
        self._writing += [self._pool.submit(job) for job in (self._first, write) if job is not None]
        self._first = None

    def share(self, source: str, target: str) -> None:
        old, new = self.path / source, self._new(target)
        try:
            os.link(old, new)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without hard links, or too many of them
            self.put(target, [self.get(source)])

    @property
    def where(self) -> str:
        return str(self.path)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        path = self.path / name  # memory-mapped, not read: objects never change, and keys need not be loaded
        if not path.stat().st_size:
            return np.empty(0, np.uint8)
        return np.asarray(np.memmap(path, np.uint8, "r"))[start:stop]

    def flush(self) -> None:
        if not self._lasting:
            return
        try:
            if self._first is not None:
                self._first()
            for file in self._writing:
                file.result()
            list(map(sync, self._changed) if self._pool is None else self._pool.map(sync, self._changed))
        finally:
            if self._pool is not None:
                self._pool.shutdown()  # no thread may stay: forking a process with threads is not safe
            self._first, self._pool, self._writing, self._changed = None, None, [], {}

    def pointer(self) -> bytes | None:
        try:
            return (self.path / POINTER).read_bytes()
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise StoreError(f"{self.where} is a file, or in one. Name the folder of a store.") from error

    def swing(self, value: bytes, *, expected: bytes | None) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with _alone(self.path):
            if self.pointer() != expected:
                raise PointerMoved.at(self.where)
            self.put(POINTER, [value])
            self.flush()

    def names(self, prefix: str = "") -> list[str]:
        folder = self.path / prefix
        return sorted(entry.name for entry in os.scandir(folder)) if folder.is_dir() else []

    def delete(self, prefix: str) -> None:
        with contextlib.suppress(OSError):
            self.flush()  # finish what a failed commit has begun to write, or files could appear after the deletion
        target = self.path / prefix
        if target.is_symlink():
            target.unlink(missing_ok=True)
            return
        with unheld(target) as free:
            if free and target.is_dir():
                shutil.rmtree(target)
            elif free:
                target.unlink(missing_ok=True)

    def hold(self, prefix: str) -> LocalHold:
        return LocalHold(self.path / prefix)

    def held(self, prefix: str) -> bool:
        with unheld(self.path / prefix) as free:
            return not free

    def lease(self, *, steal: bool = False) -> WriterLock:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise StoreError(f"{self.path} is a file. Name a folder that does not exist yet.") from error
        return WriterLock(self.path / LEASE, steal=steal)

    def _new(self, name: str) -> Path:
        """The path of a new object, in a folder that is made; `flush` will sync that folder."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._lasting:
            self._changed |= dict.fromkeys(_between(self.path, target.parent))
        return target


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process, and no other thread of this one, is in this block for the same folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(
            OSError
        ):  # a file system without such locks: there only the lease keeps the writers apart
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing would not unlock it: a forked child may hold it too
        os.close(descriptor)


def _between(top: Path, folder: Path) -> Iterator[Path]:
    """`folder` and its parents up to and including `top`, the deepest first."""
    yield folder
    while folder != top:
        folder = folder.parent
        yield folder
