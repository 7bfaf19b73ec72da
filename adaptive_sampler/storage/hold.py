"""A hold on a file or folder: a shared lock that keeps it from being deleted while some process reads what it stands for."""

import contextlib
import errno
import fcntl
import os
import weakref
from collections.abc import Iterator
from pathlib import Path


class LocalHold:
    """Keeps `path` from being deleted until `release`, or until the last process that has the hold is gone.

    The lock is made by `flock`: a forked child shares it, and may go on reading after its parent is gone; `release` in
    either of them leaves the other one's. A hold that is pickled is taken anew where it is loaded. Raises
    `FileNotFoundError` if nothing is at `path` or if it is being deleted. On a file system without such locks, a hold
    keeps nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._end = weakref.finalize(self, os.close, descriptor)  # never LOCK_UN: that would end a forked child's, too
        if not _locked(descriptor, fcntl.LOCK_SH) or not _is_at(path, descriptor):
            self._end()
            raise FileNotFoundError(errno.ENOENT, "is being deleted", str(path))

    def release(self) -> None:
        """End the hold of this process; a second call does nothing."""
        self._end()

    def __reduce__(self) -> tuple[type["LocalHold"], tuple[Path]]:
        return LocalHold, (self._path,)


@contextlib.contextmanager
def unheld(path: Path) -> Iterator[bool]:
    """Whether nobody holds `path`, which is no symbolic link; in the block nobody can begin to."""
    descriptor = _opened(path)
    if descriptor is None:
        yield True
        return
    try:
        yield _locked(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int | None:
    """A descriptor by which `path` can be locked; None for what is not there, or cannot be opened: deleting it will tell."""
    for access in (
        os.O_RDWR,
        os.O_RDONLY,
    ):  # over NFS an exclusive lock needs a file that can be written; no folder can
        with contextlib.suppress(OSError):
            return os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    return None


def _locked(descriptor: int, kind: int) -> bool:
    """Lock without waiting. Returns False if another lock is in the way, True also where there are no such locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether `path` still names what is open as `descriptor`; deleted files stay open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
