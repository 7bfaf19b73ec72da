"""One writer at a time: a record lock, which ends with its holder's process, and a heartbeat for other hosts to see."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from adaptive_sampler.errors import StoreLocked

BEAT = 15.0  # seconds between heartbeats
DEAD = 4 * BEAT  # seconds after which a holder on another host, without a heartbeat, counts as dead

_held: set[str] = set()  # paths that this process has locked: a record lock does not exclude its own process


class WriterLock:
    """The right to write, held from construction to `release`. Raises `StoreLocked` while another writer holds it.

    The lock is made by `fcntl.lockf`, not by `flock`: a forked DataLoader worker would inherit a `flock`, and keep the lock
    of a dead trainer alive. The kernel frees a record lock when its process ends, however it ends.
    """

    def __init__(self, path: Path, *, steal: bool = False) -> None:
        self._path, self._owner = path, os.getpid()
        self.taken_over = steal
        self._name = os.path.realpath(path)
        if self._name in _held:
            raise StoreLocked(
                f"{path.parent} is open for writing in this very process. Close that store, or use mode='r'."
            )
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  kept open, because closing it would free the lock
        try:
            self._acquire(steal)
        except BaseException:
            self._file.close()
            raise
        _held.add(self._name)
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
        _held.discard(self._name)
        with contextlib.suppress(OSError):
            self._file.truncate(0)
        self._file.close()

    def _acquire(self, steal: bool) -> None:
        """Take the lock and write into its file who holds it. Raises `StoreLocked`."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreLocked(_message(self._path, self._holder(), "is alive")) from error
        holder = self._holder()
        elsewhere = bool(holder) and holder.get("host") != socket.gethostname()
        silent = time.time() - os.fstat(self._file.fileno()).st_mtime
        if elsewhere and silent < DEAD and not steal:
            raise StoreLocked(_message(self._path, holder, f"was alive {silent:.0f} s ago"))
        self.taken_over |= (
            elsewhere  # a record lock shows that a holder on this host is dead; of another host it shows nothing
        )
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": self._owner, "host": socket.gethostname(), "since": time.time()}).encode())

    def _holder(self) -> dict[str, Any]:
        """What the file says of its holder (pid, host, since); empty if it says nothing."""
        self._file.seek(0)
        try:
            holder = json.loads(self._file.read())
        except ValueError:
            return {}
        return holder if isinstance(holder, dict) else {}

    def _beat(self) -> None:
        """Touch the file regularly, so that other hosts see that its holder lives."""
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._path)


def _message(path: Path, holder: dict[str, Any], state: str) -> str:
    return (
        f"{path.parent} is open for writing by pid {holder.get('pid', 'unknown')} on host {holder.get('host', 'unknown')}, "
        f"which {state}. Open it with mode='r', wait for that process, or, if it is gone for good, open with steal=True."
    )
