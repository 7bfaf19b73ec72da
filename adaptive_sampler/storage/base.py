"""The interface of a place for versions: it holds immutable objects by name, one pointer, and one writer's lease."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

POINTER, LEASE = "CURRENT", "LOCK"
"""The names of the pointer and of the lease in `Storage.names`, and wherever a storage shows its objects to people."""


class Lease(Protocol):
    """The right to write, held by one process at a time."""

    @property
    def mine(self) -> bool:
        """Whether this process holds the lease; False in a forked child, and after `release`."""

    @property
    def taken_over(self) -> bool:
        """Whether it was taken from a holder that did not release it and may, for all that is known, still be writing."""

    def release(self) -> None:
        """Give the lease back; a second call does nothing, and neither does a call in a forked child."""


class Hold(Protocol):
    """Keeps an object, or all objects below a prefix, from being deleted by any process; see `Storage.hold`."""

    def release(self) -> None:
        """End the hold of this process; a second call does nothing. It ends with the process, too."""


@runtime_checkable
class Storage(Protocol):
    """Named immutable objects, one pointer and one lease: all that a store needs of a disk or an object store.

    A commit puts or shares the objects of a new version, makes them durable, then changes ("swings") the pointer. Objects
    of versions that the pointer does not list are leftovers, which the next commit deletes. On an object store, `put` is a
    PUT, `share` a server-side copy, `flush` does nothing, `swing` is a conditional PUT, and `lease` an object that
    expires. One whose answers let wait may have `at_once`, an int: so many `get` are called at a time, from threads; else one
    after another. `adaptive_sampler.testing.check_storage` tests whether a storage does what is said here.
    """

    @property
    def where(self) -> str:
        """The name of this place in messages, and the path for `ScoreStore.open` if a path can name the place."""

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        """Store the concatenated `parts` as a new object, whole or not at all. `flush` may be what raises an error."""

    def share(self, source: str, target: str) -> None:
        """Make a new object `target`, equal to the object `source`, without moving the bytes if that is possible.

        Raises `FileNotFoundError` if there is no `source`; `flush` may be what raises it.
        """

    def get(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Bytes `start` … `stop` − 1 of an object (None: to its end), (size,) uint8; fewer if it ends before `stop`.

        Raises `FileNotFoundError` if there is no such object.
        """

    def flush(self) -> None:
        """Return once everything that was put and shared so far would survive a power cut."""

    def pointer(self) -> bytes | None:
        """What the pointer holds, or None before the first swing."""

    def swing(self, value: bytes, *, expected: bytes | None) -> None:
        """Make the pointer hold `value`, durably and atomically: a reader sees the old value or the new one.

        Raises `PointerMoved`, and changes nothing, unless the pointer holds `expected` (None: it was never swung). If
        several writers expect the same value, only one of them succeeds. A value that is shorter than the one before should
        need no room: with it versions are dropped, which is how room is made.
        """

    def names(self, prefix: str = "") -> list[str]:
        """The first path component after `prefix` of the name of every object below it, sorted, without repeats.

        Without a prefix, the list also has `POINTER` and `LEASE` if these exist.
        """

    def delete(self, prefix: str) -> None:
        """Remove the object `prefix`, or all objects below it; do nothing if there are none. Removes `POINTER`, too.

        What somebody holds stays, without an error, and so does what the place cannot delete yet: `names` still lists it.
        """

    def hold(self, prefix: str) -> Hold:
        """Let `delete(prefix)` leave the object `prefix`, or all objects below it, until the hold is released.

        Several may hold the same prefix, in one process and in many; a forked child has the holds of its parent. Deleting
        something else, above or below `prefix`, asks nobody. Raises `FileNotFoundError` if nothing is there.
        """

    def held(self, prefix: str) -> bool:
        """Whether somebody, in this process or in another one, holds `prefix`."""

    def lease(self, *, steal: bool = False) -> Lease:
        """Become the only writer. Raises `StoreLocked` while another writer is alive.

        `steal`: take the lease from a holder whose death cannot be seen from here, such as one on another host.
        """
