"""What a place for stores must do: hold immutable objects by name, and one pointer that is swung atomically."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Storage(Protocol):
    """Named immutable objects and one pointer: all that a store asks of a disk or an object store.

    A commit puts or shares the objects of a new generation, makes them durable, then swings the pointer; whatever no
    pointer reaches is a leftover. On an object store `put` is a PUT, `share` a server-side copy, `flush` nothing, and
    `swing` a conditional PUT. `adaptive_sampler.testing.check_storage` is the contract as a test.
    """

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        """Store the concatenated `parts` as a new object, whole or not at all; an error may come from `flush`."""

    def share(self, source: str, target: str) -> None:
        """Make `target` an object equal to `source`, without moving its bytes where that is possible."""

    def get(self, name: str) -> np.ndarray:
        """The object's bytes, (size,) uint8. Raises `FileNotFoundError`."""

    def flush(self) -> None:
        """Return when everything put and shared so far would survive a power cut."""

    def pointer(self) -> bytes | None:
        """What the pointer holds, or None before the first swing."""

    def swing(self, value: bytes) -> None:
        """Point to `value`, durably; a reader sees the old value or the new one."""

    def names(self, prefix: str = "") -> list[str]:
        """The first path component after `prefix` of every object below it, sorted, without repeats."""

    def delete(self, prefix: str) -> None:
        """Remove the object or folder of objects at `prefix`, where there is one."""
