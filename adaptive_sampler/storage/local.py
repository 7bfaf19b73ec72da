"""A storage on a local disk: one file per object, hard links for what versions share, and a rename for the pointer."""

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adaptive_sampler.disk import FULL, nbytes, sync, write_whole
from adaptive_sampler.errors import PointerMoved, StoreDamaged, StoreError
from adaptive_sampler.storage.base import LEASE, POINTER
from adaptive_sampler.storage.hold import LocalHold, unheld
from adaptive_sampler.storage.lock import WriterLock
from adaptive_sampler.storage.mapped import contents, mapped
from adaptive_sampler.storage.remove import remove

if TYPE_CHECKING:
    from adaptive_sampler.storage.writers import WritesAhead

AHEAD = 16 << 20  # bytes that may wait to be written: a commit holds copies of a few chunks, however slow the disk is
THREADS = 8  # fsync waits for the disk and needs no core: with eight at once, a commit took half as long
RESERVE = "RESERVE"  # a file of so many bytes, at least; with it a version can be dropped where no byte is free
ROOM = 1 << 14
NO_OBJECT = re.compile(
    rf"{RESERVE}|\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+"
)  # the latter: files deleted while they were open


class LocalStorage:
    """A folder. Files appear by a rename, so they are whole; `flush` and `swing` use fsync, so they are durable.

    `lasting=False` is for a folder that is deleted with its store: it saves the time for threads and fsync.
    """

    def __init__(self, path: str | os.PathLike[str], *, lasting: bool = True) -> None:
        self.path, self._lasting = Path(path).absolute(), lasting  # so that a later chdir does not move it
        self._root, self._inside = str(self.path), {""}  # folders that are known to be no symbolic links
        self._spent = 0  # the length of the pointer that was swung in the reserve, until there is a new reserve
        self._told = False  # whether it was said that something cannot be deleted
        self._changed: dict[Path, None] = {}  # folders with new entries, in order
        self._first: tuple[Callable[[], None], int] | None = (
            None  # the first write and its bytes; alone it needs no thread
        )
        self._ahead: WritesAhead | None = None

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        if not self._lasting:
            write_whole(self._new(name), parts, lasting=False)
            return
        write = partial(write_whole, self._new(name), parts), nbytes(parts)
        if self._first is None and self._ahead is None:
            self._first = write
            return
        if self._ahead is None:
            from adaptive_sampler.storage.writers import (
                WritesAhead,  # imported late: only a commit of several files needs it
            )

            self._ahead = WritesAhead(THREADS, AHEAD)
        for job, size in (write,) if self._first is None else (self._first, write):
            self._ahead.add(size, job)
        self._first = None

    def share(self, source: str, target: str) -> None:
        old, new = self._path(source), self._new(target)
        try:
            if os.path.islink(old):
                raise OSError("a link to a link would lead elsewhere from another folder")
            os.link(old, new)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without hard links, or too many of them
            self.put(target, [self.get(source)])

    @property
    def where(self) -> str:
        return str(self.path)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return mapped(self._path(name))[start:stop]  # not read: objects never change, and keys need not be loaded

    def flush(self) -> None:
        if not self._lasting:
            return
        try:
            if self._first is not None:
                self._first[0]()
            if self._ahead is None:
                list(map(sync, self._changed))
            else:
                self._ahead.finish()
                self._ahead.map(sync, self._changed)
        finally:
            if self._ahead is not None:
                self._ahead.close()
            self._first, self._ahead, self._changed = None, None, {}

    def pointer(self) -> bytes | None:
        try:
            return contents(self.path / POINTER)
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise StoreError(f"{self.where} is a file, or in one. Name the folder of a store.") from error
        except OSError as error:
            kind = StoreDamaged if error.errno in (errno.EINVAL, errno.ELOOP) else StoreError
            raise kind(
                f"{self.where}/{POINTER} cannot be read: {error.strerror}. Make it readable, or restore it from a backup."
            ) from error

    def swing(self, value: bytes, *, expected: bytes | None) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with _alone(self.path):
            if self.pointer() != expected:
                raise PointerMoved.at(self.where)
            try:
                self.put(POINTER, [value])
                self.flush()
            except OSError as error:  # a longer pointer is that of a commit, which must not use up the room to drop one
                if error.errno not in FULL or len(value) >= len(expected or b"") or not self._swing_in_reserve(value):
                    raise
            else:
                self._keep_room(len(value))

    def names(self, prefix: str = "") -> list[str]:
        try:
            self._check(prefix)
            found = os.listdir(self.path / prefix)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if not NO_OBJECT.fullmatch(name))

    def delete(self, prefix: str) -> None:
        with contextlib.suppress(OSError):
            self.flush()  # finish what a failed commit has begun to write, or files could appear after the deletion
        target = self._path(prefix)
        with unheld(target) as free:
            error = remove(target) if free else None
        if self._spent:
            self._keep_room(self._spent)
        if error is not None and not self._told:
            import logging  # imported late, as it is rarely needed

            self._told = True
            logging.getLogger("adaptive_sampler").warning(
                "%s cannot be deleted (%s) and stays. It takes room and does no harm: delete it by hand.", target, error
            )

    def hold(self, prefix: str) -> LocalHold:
        return LocalHold(self._path(prefix))

    def held(self, prefix: str) -> bool:
        with unheld(self._path(prefix)) as free:
            return not free

    def lease(self, *, steal: bool = False) -> WriterLock:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise StoreError(f"{self.path} is a file. Name a folder that does not exist yet.") from error
        except OSError as error:
            raise StoreError(
                f"the folder {self.path} cannot be made: {error.strerror}. Name a place to which this process may write."
            ) from error
        return WriterLock(self.path / LEASE, steal=steal)

    def _new(self, name: str) -> Path:
        """The path of a new object, in a folder that is made; `flush` will sync that folder."""
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._lasting:
            self._changed |= dict.fromkeys(_between(self.path, target.parent))
        return target

    def _path(self, name: str) -> Path:
        """Where the object `name` is; that may be a link to a file. Raises `StoreDamaged` as `_check` does."""
        self._check(name.rpartition("/")[0])
        return self.path / name

    def _check(self, folder: str) -> None:
        """Raise `StoreDamaged` if this folder, or one on the way to it, is a link, which leads out of here."""
        if folder in self._inside:
            return
        self._check(folder.rpartition("/")[0])
        if os.path.islink(at := f"{self._root}/{folder}"):
            raise StoreDamaged(
                f"{at} is a symbolic link; a store keeps its folders within its own. Put the folder itself there, or link to the "
                "store as a whole."
            )
        self._inside.add(folder)

    def _keep_room(self, length: int) -> None:
        """Keep a file by which a pointer of `length` bytes can be swung on a full disk; if that fails, go on without."""
        reserve = self.path / RESERVE
        with contextlib.suppress(OSError):
            about = reserve.lstat() if reserve.exists() else None
            if about is None or not stat.S_ISREG(about.st_mode) or about.st_nlink != 1 or about.st_size < length:
                noise = os.urandom(max(ROOM, 2 * length))  # zeros would take no room on a disk that compresses
                write_whole(reserve, [noise], lasting=False)
            self._spent = 0

    def _swing_in_reserve(self, value: bytes) -> bool:
        """Write the pointer over the reserve, whose bytes the disk has already, and rename that. Returns False without one."""
        reserve = self.path / RESERVE
        try:
            descriptor = os.open(reserve, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        with open(descriptor, "wb") as file:
            about = os.fstat(descriptor)
            if about.st_nlink != 1 or about.st_size < len(value):
                return False
            file.write(value)
            file.truncate()
            file.flush()
            os.fsync(descriptor)
        os.replace(reserve, self.path / POINTER)
        sync(self.path)
        self._spent = len(value)
        return True


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
