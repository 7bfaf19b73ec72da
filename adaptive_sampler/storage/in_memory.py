"""A storage in the memory of this process, for tests and short runs: it ends with the process, and writes no file."""

import contextlib
import os
import threading
import uuid
from collections.abc import Sequence

import numpy as np

from adaptive_sampler.errors import PointerMoved, StoreLocked
from adaptive_sampler.storage.base import LEASE, POINTER

SCHEME = "memory"


class MemoryStorage:
    """Objects in a dict. Several stores of one process may use it, in several threads; one may write at a time."""

    def __init__(self, name: str | None = None) -> None:
        self.where = f"{SCHEME}://{name or uuid.uuid4().hex}"
        self._objects: dict[str, bytes] = {}
        self._guard = threading.Lock()
        self._holder: MemoryLease | None = None
        self._holds: list[MemoryHold] = []

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        whole = b"".join(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes() for part in parts)
        with self._guard:
            self._objects[name] = whole

    def share(self, source: str, target: str) -> None:
        with self._guard:
            self._objects[target] = self._object(source)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        with self._guard:
            return np.frombuffer(self._object(name), np.uint8)[start:stop]

    def flush(self) -> None:
        pass

    def pointer(self) -> bytes | None:
        with self._guard:
            return self._objects.get(POINTER)

    def swing(self, value: bytes, *, expected: bytes | None) -> None:
        with self._guard:
            if self._objects.get(POINTER) != expected:
                raise PointerMoved.at(self.where)
            self._objects[POINTER] = value

    def names(self, prefix: str = "") -> list[str]:
        below = f"{prefix}/" if prefix else ""
        with self._guard:
            found = {name.removeprefix(below).split("/")[0] for name in self._objects if name.startswith(below)}
        return sorted(found | ({LEASE} if not prefix and self._holder is not None else set()))

    def delete(self, prefix: str) -> None:
        with self._guard:
            for name in [] if self.held(prefix) else self._below(prefix):
                del self._objects[name]

    def hold(self, prefix: str) -> "MemoryHold":
        with self._guard:
            if not self._below(prefix):
                raise FileNotFoundError(f"{self.where}/{prefix} is not there")
            return MemoryHold(self._holds, prefix)

    def held(self, prefix: str) -> bool:
        return any(hold.prefix == prefix for hold in tuple(self._holds))

    def lease(self, *, steal: bool = False) -> "MemoryLease":
        with self._guard:
            if self._holder is not None and self._holder.mine and not steal:
                raise StoreLocked(
                    f"{self.where} is open for writing in this very process. Close that store, or use mode='r'."
                )
            self._holder = MemoryLease(self, taken_over=self._holder is not None)
            return self._holder

    def let_go(self, lease: "MemoryLease") -> None:
        """End this lease, unless it was stolen meanwhile. For leases."""
        with self._guard:
            if self._holder is lease:
                self._holder = None

    def holds(self, lease: "MemoryLease") -> bool:
        """Whether this lease is the valid one. For leases."""
        return self._holder is lease

    def _below(self, prefix: str) -> list[str]:
        return [name for name in self._objects if name == prefix or name.startswith(f"{prefix}/")]

    def _object(self, name: str) -> bytes:
        try:
            return self._objects[name]
        except KeyError:
            raise FileNotFoundError(f"{self.where}/{name} is not there") from None

    def __reduce__(self) -> str:
        raise TypeError(
            f"{self.where} lives in the memory of process {os.getpid()} and cannot be sent to another one. Keep what "
            "several processes read in a folder."
        )


class MemoryHold:
    """Keeps what is below `prefix` in a `MemoryStorage`, whose list of holds is `among`."""

    def __init__(self, among: "list[MemoryHold]", prefix: str) -> None:
        self.prefix, self._among = prefix, among
        among.append(self)

    def release(self) -> None:
        """End the hold; a second call does nothing."""
        with contextlib.suppress(ValueError):
            self._among.remove(self)


class MemoryLease:
    """The right to write to a `MemoryStorage`, from `MemoryStorage.lease` to `release`."""

    def __init__(self, storage: MemoryStorage, *, taken_over: bool) -> None:
        self._storage, self._owner, self.taken_over = storage, os.getpid(), taken_over

    @property
    def mine(self) -> bool:
        """Whether this process holds the lease, and nobody has stolen it."""
        return os.getpid() == self._owner and self._storage.holds(self)

    def release(self) -> None:
        """Give the lease back; a second call does nothing."""
        if self.mine:
            self._storage.let_go(self)
