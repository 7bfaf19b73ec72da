"""One writer at a time: a record lock, which ends with its holder's process, and a heartbeat for other hosts to see."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from adaptive_sampler.checks import is_whole
from adaptive_sampler.errors import StoreError, StoreLocked

BEAT = 15.0  # seconds between heartbeats
DEAD = 4 * BEAT  # seconds after which a holder on another host, without a heartbeat, counts as dead

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}  # the file system has none
LENGTH = 256  # bytes of the file, which it keeps for ever: a full disk has no room for new ones

_held: dict[str, "WriterLock"] = {}  # by path, those of this process: a record lock does not exclude its own process


class WriterLock:
    """The right to write, held from construction to `release`. Raises `StoreLocked` while another writer holds it.

    The lock is made by `fcntl.lockf`, not by `flock`: a forked DataLoader worker would inherit a `flock`, and keep the lock
    of a dead trainer alive. The kernel frees a record lock when its process ends, however it ends. On a file system that
    has no locks, a holder is known by what the file says of it: its process, and its heartbeat.
    """

    def __init__(self, path: Path, *, steal: bool = False) -> None:
        self._path, self._owner = path, os.getpid()
        self.taken_over = steal
        self._end = contextlib.ExitStack()  # closes the file, then forgets its path: no other thread may open it before
        name = os.path.realpath(path)
        if _held.setdefault(name, self) is not self:  # in one step, so that of two threads one is refused
            raise StoreLocked(
                f"{path.parent} is open for writing in this very process. Close that store, or use mode='r'."
            )
        self._end.callback(_held.pop, name, None)
        self._record = {"pid": self._owner, "host": socket.gethostname(), "since": time.time()}
        try:
            self._file = self._end.enter_context(_opened(path))  # kept open, because closing it would free the lock
            self._acquire(steal)
        except BaseException:
            self._end.close()
            raise
        self._stop = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="adaptive-sampler-lock").start()

    @property
    def mine(self) -> bool:
        """Whether this process holds the lock; False in a forked child, and after `release`."""
        return not self._file.closed and os.getpid() == self._owner

    def release(self) -> None:
        """Give the lock back; a second call does nothing, and neither does a call in a forked child."""
        if not self.mine:
            return
        self._stop.set()
        with contextlib.suppress(OSError):
            if self._locked or self._holder() == self._record:  # else it was stolen meanwhile
                self._write(b"")
        self._end.close()

    def inherited(self) -> None:
        """Forget a lock that is the parent's, in a forked child, where closing its file later would free the child's own."""
        self._end.close()

    def _acquire(self, steal: bool) -> None:
        """Take the lock and write into its file who holds it. Raises `StoreLocked`."""
        locked = self._locked = self._lock()
        holder = self._holder()
        here = holder.get("host") == self._record["host"]
        silent = time.time() - os.fstat(self._file.fileno()).st_mtime
        # The kernel's lock shows that a holder on this host is dead; of another host it shows nothing.
        doubtful = bool(holder) and not (locked and here)
        if doubtful and silent < DEAD and not steal and not (here and is_gone(holder.get("pid"))):
            raise StoreLocked(_message(self._path, holder, f"was alive {silent:.0f} s ago", locked))
        if not locked:
            _tell(self._path)
        self.taken_over |= doubtful
        with contextlib.suppress(OSError):  # a disk without room: the lock is held all the same
            self._write(json.dumps(self._record).encode())

    def _lock(self) -> bool:
        """Lock the file. Returns False if its file system has no locks; raises `StoreLocked` if somebody else has locked it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return False
            raise StoreLocked(_message(self._path, self._holder(), "is alive", True)) from error
        return True

    def _holder(self) -> dict[str, Any]:
        """What the file says of its holder (pid, host, since); empty if it says nothing, or something else."""
        try:
            holder = json.loads(os.pread(self._file.fileno(), 1 << 16, 0))
        except (ValueError, RecursionError):
            return {}
        ours = isinstance(holder, dict) and {"pid", "host"} <= holder.keys()
        return holder if ours else {}

    def _write(self, record: bytes) -> None:
        """Make the file say `record`, and be as long as before, so that this needs no room on the disk."""
        length = max(LENGTH, len(record))
        os.pwrite(self._file.fileno(), record.ljust(length), 0)
        self._file.truncate(length)

    def _beat(self) -> None:
        """Touch the file regularly, so that other hosts see that its holder lives."""
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._path, follow_symlinks=False)


def _after_fork() -> None:
    """In a child: none of the locks is its own, so it waits for its parent as for any other process, and no longer."""
    for lock in list(_held.values()):
        lock.inherited()


os.register_at_fork(after_in_child=_after_fork)


def _opened(path: Path) -> BinaryIO:
    """The lock's file, which is made if it is missing. Raises `StoreError` if it cannot be opened, or is no plain file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return open(descriptor, "r+b", buffering=0)
        os.close(descriptor)
        why = "it is no regular file"
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)
    raise StoreError(
        f"{path} cannot be opened to write: {why}. Open the store with mode='r', or make that a file that can be written."
    )


def is_gone(pid: Any) -> bool:
    """Whether no process of this host has the number `pid`."""
    if not is_whole(pid, 1, most=1 << 31):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _tell(path: Path) -> None:
    import logging  # imported late, as it is rarely needed

    logging.getLogger("adaptive_sampler").warning(
        "The file system of %s has no locks. A second writer is noticed by the first one's heartbeat, or when it commits: see "
        "to it that one process writes at a time.",
        path.parent,
    )


def _message(path: Path, holder: dict[str, Any], state: str, locked: bool) -> str:
    judged = "" if locked else " Its file system has no locks, so this is judged by a heartbeat."
    return (
        f"{path.parent} is open for writing by pid {holder.get('pid', 'unknown')} on host {holder.get('host', 'unknown')}, "
        f"which {state}.{judged} Open it with mode='r', wait for that process, or, if it is gone for good, open with steal=True."
    )
