"""What a place for versions must do: hold immutable objects by name, one pointer that is swung, and one writer's lease."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

POINTER, LEASE = "CURRENT", "LOCK"
"""What the pointer and the lease are called. A place that shows its objects to people shows these by these names."""


class Lease(Protocol):
    """The right to write, held by one process at a time."""

    @property
    def mine(self) -> bool:
        """Whether this very process holds it: not a forked child, and not after `release`."""

    def release(self) -> None:
        """Give it back; a second call does nothing, nor does one in a forked child."""


@runtime_checkable
class Storage(Protocol):
    """Named immutable objects, one pointer and one lease: all that is asked of a disk or an object store.

    A commit puts or shares the objects of a new version, makes them durable, then swings the pointer; whatever no
    pointer reaches is a leftover. On an object store `put` is a PUT, `share` a server-side copy, `flush` nothing, `swing`
    a conditional PUT, and `lease` an object that expires. `adaptive_sampler.testing.check_storage` is the contract as a
    test.
    """

    @property
    def where(self) -> str:
        """What messages call this place, and what `ScoreStore.open` takes where it can be opened by a name."""

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        """Store the concatenated `parts` as a new object, whole or not at all; an error may come from `flush`."""

    def share(self, source: str, target: str) -> None:
        """Make `target` an object equal to `source`, without moving its bytes where that is possible."""

    def get(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Bytes `start` … `stop` − 1 of the object, (size,) uint8, fewer where it ends before. Raises `FileNotFoundError`."""

    def flush(self) -> None:
        """Return when everything put and shared so far would survive a power cut."""

    def pointer(self) -> bytes | None:
        """What the pointer holds, or None before the first swing."""

    def swing(self, value: bytes, *, expected: bytes | None) -> None:
        """Point to `value`, durably; a reader sees the old value or the new one.

        Raises `PointerMoved`, and changes nothing, unless the pointer holds `expected`: of several writers that saw the
        same value one wins.
        """

    def names(self, prefix: str = "") -> list[str]:
        """The first path component after `prefix` of every object below it, sorted, without repeats; without a prefix
        also `POINTER` and `LEASE` where these exist.
        """

    def delete(self, prefix: str) -> None:
        """Remove the object or folder of objects at `prefix`, where there is one. `POINTER` is one such name."""

    def lease(self, *, steal: bool = False) -> Lease:
        """Become the one writer. Raises `StoreLocked` while another one is alive.

        `steal`: take it from a holder whose death cannot be seen from here, such as one on another host.
        """
