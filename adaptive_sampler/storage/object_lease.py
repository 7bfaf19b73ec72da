"""One writer, and what readers hold, in an object store: small objects that their owner writes anew while it lives.

How long an owner has been silent is told by the server's clock alone: by when it wrote last, and by when something that is
written now was written. The clocks of the processes do not matter.
"""

import contextlib
import json
import os
import platform
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from adaptive_sampler.errors import StoreError, StoreLocked, Unreachable
from adaptive_sampler.remote.objects import Objects, Token
from adaptive_sampler.storage.base import LEASE
from adaptive_sampler.storage.lock import BEAT, DEAD, is_gone

HOLDS = "HOLDS"  # the prefix of what readers hold, which `Storage.names` does not list
CLOCK = f"{HOLDS}/clock"  # an object that is written to learn what time the server has
TRIES = 3  # how often a lease that changes hands is asked for

_mine: set[str] = set()  # the ids of the leases that this process holds


class ObjectLease:
    """The right to write, held from construction to `release`. Raises `StoreLocked` while another writer lives.

    The object `LOCK` says who holds it; it is replaced by a conditional put, so that of two who want it one gets it. A
    holder of this host whose process is gone, and a holder that was silent for a minute, are dead.
    """

    def __init__(self, objects: Objects, *, steal: bool = False, last: Callable[[], None]) -> None:
        """`last`: what is to be done before it is given back."""
        self._lock = _Lock(objects)
        self.taken_over = self._lock.acquire(steal)
        self._end = weakref.finalize(self, _ended, os.getpid(), _beating(self._lock.renew), last, self._lock.end)

    @property
    def mine(self) -> bool:
        """Whether this process holds the lease; False in a forked child, after `release`, and once it was taken from it."""
        return self._lock.mine

    def release(self) -> None:
        """Give the lease back; a second call does nothing, and neither does a call in a forked child."""
        self._end()


class _Lock:
    """The object `LOCK`, as one who wants it, or holds it, sees it."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._owner, self._guard = objects, os.getpid(), threading.Lock()
        self._id = uuid.uuid4().hex
        self._token: Token | None = None  # of the object as this holder wrote it; None: it holds it no more

    @property
    def mine(self) -> bool:
        return self._token is not None and os.getpid() == self._owner

    def acquire(self, steal: bool) -> bool:
        """Write into the object who holds it. Returns whether it was taken from somebody. Raises `StoreLocked`."""
        record = {"pid": self._owner, "host": socket.gethostname(), "machine": _machine(), "since": time.time()}
        self._data = json.dumps(record | {"id": self._id}).encode()
        try:
            for _ in range(TRIES):
                found = self._objects.read(LEASE)
                holder = {} if found is None else _holder(found.data)
                if holder:
                    self._check_dead(holder, steal)
                free = self._objects.swap(LEASE, b"", None) if found is None else found.token
                if free is not None and self._taken(free):
                    return bool(holder)
        finally:
            if self._token is None:  # also where its answer was lost: then it may be taken again
                _mine.discard(self._id)
        raise StoreLocked(f"{self._objects.url} is being opened for writing by several at once. Try again.")

    def _taken(self, free: Token) -> bool:
        """Write the object, if it is still in the state `free`. Returns whether it was."""
        _mine.add(self._id)  # before others of this process can see it
        token = self._objects.swap(LEASE, self._data, free)
        if token is not None:
            self._check_server(free)
        self._token = token
        return token is not None

    def _check_dead(self, holder: dict[str, Any], steal: bool) -> None:
        """Raise `StoreLocked` unless the holder is dead, or its lease is stolen."""
        where = self._objects.url
        here = holder["machine"] == _machine()
        if here and holder["pid"] == self._owner:
            if holder["id"] in _mine and not steal:
                raise StoreLocked(
                    f"{where} is open for writing in this very process. Close that store, or use mode='r'."
                )
            return
        if steal or (here and is_gone(holder["pid"])):
            return
        last = self._objects.changed(LEASE)
        silent = 0.0 if last is None else (_now(self._objects) - last).total_seconds()
        if silent < DEAD:
            raise StoreLocked(
                f"{where} is open for writing by pid {holder['pid']} on host {holder['host']}, which was alive {silent:.0f} s ago. "
                "Open it with mode='r', wait for that process (once it has been silent for "
                f"{DEAD:.0f} s it counts as dead) or, if it is gone for good, open with steal=True."
            )

    def _check_server(self, before: Token) -> None:
        """Raise `StoreError` if the server ignores conditions, as then two writers could overwrite each other's commits."""
        for condition, seen in (("If-None-Match", None), ("If-Match", before)):
            if self._objects.swap(LEASE, self._data, seen) is not None:
                self._objects.remove([LEASE])
                raise StoreError(
                    f"{self._objects.url}: its server ignores {condition}, without which two writers are not kept apart. Name a "
                    "place in S3, Google Cloud Storage, Azure, or a server that has conditional puts."
                )

    def renew(self) -> bool:
        """Write the object anew, so that others see that its holder lives. Returns False once somebody else has taken it."""
        with self._guard:
            if self._token is not None:
                self._token = self._objects.swap(LEASE, self._data, self._token) or self._as_written()
            return self._token is not None

    def _as_written(self) -> Token | None:
        """The token of the object if it says that this holder has it: it was written before, and the answer was lost."""
        found = self._objects.read(LEASE)
        return found.token if found is not None and found.data == self._data else None

    def end(self) -> None:
        """Make the object say that nobody holds it, unless somebody else has taken it."""
        with self._guard:
            token, self._token = self._token, None
            _mine.discard(self._id)  # even if the server does not answer: this process may take it again
            if token is not None and self._objects.swap(LEASE, b"", token) is None and (token := self._as_written()):
                self._objects.swap(LEASE, b"", token)


class ObjectHold:
    """Keeps what is below `prefix` from being deleted until `release`, or until its process has been silent for a minute.

    A reader who may not write holds nothing: a version that is dropped is deleted under it, which it is told when it reads.
    Raises `FileNotFoundError` if nothing is there.
    """

    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects, self._prefix = objects, prefix
        name = f"{_holds(prefix)}/{uuid.uuid4().hex}"
        stop = _beating(lambda: _written(objects, name)) if _written(objects, name) else lambda: None
        self._end = weakref.finalize(self, _ended, os.getpid(), stop, lambda: objects.remove([name]))
        if objects.changed(prefix) is None and not objects.below(prefix):
            self.release()
            raise FileNotFoundError(f"{objects.url}/{prefix} is not there")

    def release(self) -> None:
        """End the hold of this process; a second call does nothing."""
        self._end()

    def __reduce__(self) -> tuple[type["ObjectHold"], tuple[Objects, str]]:
        return ObjectHold, (self._objects, self._prefix)


class NoHold:
    """What a reader of a web server holds: nothing. Raises `FileNotFoundError` if there is no object `prefix`."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        if objects.changed(prefix) is None:
            raise FileNotFoundError(f"{objects.url}/{prefix} is not there")

    def release(self) -> None:
        """Do nothing."""


def held(objects: Objects, prefix: str) -> bool:
    """Whether some living process holds `prefix`; what dead ones held is deleted."""
    holds = objects.below(_holds(prefix))
    if not holds:
        return False
    now = _now(objects)
    dead = [name for name, about in holds.items() if (now - about.changed).total_seconds() >= DEAD]
    objects.remove(dead)
    return len(dead) < len(holds)


def _holds(prefix: str) -> str:
    return f"{HOLDS}/{quote(prefix, safe='')}"


def _written(objects: Objects, name: str) -> bool:
    """Write an object without bytes. Returns False if that is impossible, which is told once."""
    try:
        objects.put(name, [b""])
    except Unreachable as error:
        import logging  # imported late, as it is rarely needed

        logging.getLogger("adaptive_sampler").warning(
            "%s: nothing shows that this version is being read (%s). It may be deleted meanwhile.", objects.url, error
        )
        return False
    return True


def _now(objects: Objects) -> datetime:
    """The time now, by the server's clock."""
    objects.put(CLOCK, [b""])
    now = objects.changed(CLOCK)
    if now is None:
        raise Unreachable(f"{objects.url}/{CLOCK} was written, and is not there. Try again.")
    return now


def _beating(beat: Callable[[], bool]) -> Callable[[], None]:
    """Call `beat` regularly, in a thread, until it returns False. Returns a function that ends this, and waits for the end."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(BEAT):
            with contextlib.suppress(OSError):  # the server does not answer now; it may at the next beat
                if not beat():
                    return

    def stopped() -> None:
        stop.set()
        thread.join()

    thread = threading.Thread(target=run, daemon=True, name="adaptive-sampler-lease")
    thread.start()
    return stopped


def _ended(owner: int, stop: Callable[[], None], *ends: Callable[[], None]) -> None:
    """Stop beating and end what was held, in the process that holds it."""
    if os.getpid() != owner:
        return
    stop()
    for end in ends:
        with contextlib.suppress(OSError):  # it lapses by itself
            end()


def _holder(data: bytes) -> dict[str, Any]:
    """What the object `LOCK` says of its holder; empty if nobody holds it. Raises `StoreError` for what is no lock."""
    if not data:
        return {}
    try:
        holder: dict[str, Any] = json.loads(data)
        return {name: holder[name] for name in ("pid", "host", "machine", "id")}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"pid": "unknown", "host": "unknown", "machine": "", "id": ""}


def _machine() -> str:
    """What tells this host from others, and from containers on it, where numbers of processes mean something else."""
    told = [platform.node()]
    with contextlib.suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        told.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(told)
