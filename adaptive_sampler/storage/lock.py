"""One writer at a time: a record lock that dies with its holder, and a heartbeat for holders on other hosts."""

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
DEAD = 4 * BEAT  # a holder on another host that is silent for so long is taken for dead

_held: set[str] = set()  # record locks do not exclude their own process


class WriterLock:
    """Held from construction to `release`.

    `fcntl.lockf` and not `flock`: a forked DataLoader worker would inherit a `flock` and keep a dead trainer's lock
    alive. The kernel frees a record lock when its process ends, however it ends.
    """

    def __init__(self, path: Path, *, steal: bool = False) -> None:
        self._path, self._owner = path, os.getpid()
        self._name = os.path.realpath(path)
        if self._name in _held:
            raise StoreLocked(
                f"{path.parent} is open for writing in this very process. Close that store, or use mode='r'."
            )
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  kept open: closing it would free the lock
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
        """Whether this very process holds it."""
        return not self._file.closed and os.getpid() == self._owner

    def release(self) -> None:
        """Give the lock back; a second call does nothing, nor does one in a forked child."""
        if not self.mine:
            return
        self._stop.set()
        _held.discard(self._name)
        with contextlib.suppress(OSError):
            self._file.truncate(0)
        self._file.close()

    def _acquire(self, steal: bool) -> None:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreLocked(_message(self._path, self._holder(), "is alive")) from error
        holder = self._holder()
        elsewhere = bool(holder) and holder.get("host") != socket.gethostname()
        silent = time.time() - os.fstat(self._file.fileno()).st_mtime
        if elsewhere and silent < DEAD and not steal:
            raise StoreLocked(_message(self._path, holder, f"was alive {silent:.0f} s ago"))
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": self._owner, "host": socket.gethostname(), "since": time.time()}).encode())

    def _holder(self) -> dict[str, Any]:
        self._file.seek(0)
        try:
            holder = json.loads(self._file.read())
        except ValueError:
            return {}
        return holder if isinstance(holder, dict) else {}

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._path)


def _message(path: Path, holder: dict[str, Any], state: str) -> str:
    return (
        f"{path.parent} is open for writing by pid {holder.get('pid', 'unknown')} on host {holder.get('host', 'unknown')}, "
        f"which {state}. Open it with mode='r', wait for that process, or, if it is gone for good, open with steal=True."
    )
