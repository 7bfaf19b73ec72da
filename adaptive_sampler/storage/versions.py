"""Versions in a storage: each is immutable and has a manifest with checksums; a pointer names the newest."""

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from adaptive_sampler.disk import FULL, PARTIAL
from adaptive_sampler.errors import MALFORMED, NoStore, PointerMoved, StoreDamaged, StoreError, UnknownName, Unreachable
from adaptive_sampler.storage.base import POINTER, Hold, Storage
from adaptive_sampler.storage.generation import GenerationWriter, Manifest, Seal, manifest_name, read, read_manifest
from adaptive_sampler.storage.pointer import MOST, Pointer, Version, decoded

NUMBER = "(0|[1-9][0-9]*)"


@dataclass(frozen=True)
class Kind:
    """What is kept in versions, for messages: its `name`, the call that makes one, and the call that replaces one.

    `room`, `retry`: how room is made for a commit that failed, and how it is repeated.
    """

    name: str
    make: str
    again: str
    room: str = "make room (drop_versions)"
    retry: str = "commit again"


class Versions:
    """The versions that one storage holds: of a store's scores, or of anything else that is written whole and read by many.

    The pointer is read when this is opened; from then on only this writer changes it. A writer holds the storage's lease.
    If two writers believe that they hold it, because it was stolen from one, the thief has moved the pointer and left out
    a number (`take_over`). So the other one's next swing raises `PointerMoved`, whatever it was doing meanwhile, and
    nothing that it wrote or deletes has the number of a version of the thief's.
    """

    def __init__(self, storage: Storage, kind: Kind) -> None:
        self.storage, self.where, self._kind = storage, storage.where, kind
        self.pointer: Pointer
        self._raw: bytes | None = None  # what the storage's pointer held when it was last read or written here
        self._pending: list[Pointer] = []  # what it may hold by now, or come to hold: no answer came

    def create(self, first: int = 0) -> None:
        """Begin without a version, under a new identifier; nothing is written before the first commit, of number `first`.

        Version 0 is empty: what begins with something in it begins with version 1.
        """
        self.pointer, self._raw = Pointer(uuid.uuid4().hex, highest=first - 1), self.storage.pointer()

    def open(self) -> None:
        """Read the pointer as it is now. Raises `NoStore` if nothing is there, `StoreDamaged` if something else is."""
        self._raw = self.storage.pointer()
        if self._raw is not None:
            self.pointer = decoded(self._raw, self.where)
        elif self.storage.names():
            raise StoreDamaged(
                f"{self.where} holds no {self._kind.name}: there is no CURRENT. Name the place that it was made at; one whose "
                f"making was cut off is made again by {self._kind.again}."
            )
        else:
            raise NoStore(
                f"{self.where} holds no {self._kind.name}: nothing is there. Make one with {self._kind.make}."
            )

    def unbegun(self) -> bool:
        """Whether nothing was ever committed here: no pointer, and no trace of more than a first commit that was cut off."""
        later = re.compile(r"v?[1-9]\d*(\.json)?")
        found = [*self.storage.names(), *self.storage.names("manifests")]
        return POINTER not in found and not any(map(later.fullmatch, found))

    def take_over(self) -> None:
        """End whatever another writer may still be doing. To be called after its lease was taken from it.

        Raises `StoreError` if the storage refuses, and `PointerMoved` if that writer commits just now.
        """
        try:
            self._swing(replace(self.pointer, highest=self._next()))
        except OSError as error:
            raise StoreError(
                f"{self.where} cannot be taken over from its last writer: {error.strerror or error}. Mend that and open it again."
            ) from error

    def manifest(self, version: int | None, seal: Seal | None = None) -> Manifest:
        """The manifest of `version` (None: of the head). `seal`: its seal, for a version that may have been dropped since.

        Raises `UnknownName` for a version that is not committed, and `StoreDamaged` for a manifest that was changed.
        """
        wanted = self.pointer.head if version is None else version
        entry = self.pointer.entry(wanted)
        if entry is None and seal is None:
            raise self._absent(wanted)
        try:
            return read_manifest(self.storage, wanted, seal or entry.manifest)  # type: ignore[union-attr]  # one is there
        except MALFORMED as error:
            raise StoreDamaged(f"{self.where}: the manifest of version {wanted} is not one ({error}).") from error

    def hold(self, version: int | None, seal: Seal | None = None) -> tuple[Manifest, Hold]:
        """The manifest that `manifest` gives, and a hold: until it is released, the version's objects stay.

        They stay although the version is dropped, by this process or another one. The pointer is read anew, again and
        again if somebody commits or drops meanwhile. Raises as `open` and `manifest` do.
        """
        while True:
            self.open()
            seen = self._raw
            try:
                manifest = self.manifest(version, seal)
                hold = self.storage.hold(manifest_name(manifest.version))
            except (StoreDamaged, FileNotFoundError):
                if self.storage.pointer() == seen:
                    raise
                continue  # it was dropped meanwhile
            if self.storage.pointer() == seen:  # so it was not dropped before it was held
                return manifest, hold
            hold.release()

    def read(self, manifest: Manifest, name: str) -> np.ndarray | None:
        """The checked bytes of an object, (size,) uint8; None if the version has no object of that name."""
        if name not in manifest.objects:
            return None
        return read(self.storage, manifest.version, name, manifest.objects[name])

    def read_all(self, manifest: Manifest, names: Sequence[str]) -> Iterator[np.ndarray | None]:
        """What `read` gives for each name, in order; as many are asked for at once as the storage says (`at_once`)."""
        threads = getattr(self.storage, "at_once", 1)
        if threads < 2 or len(names) < 2:
            return map(partial(self.read, manifest), names)
        from adaptive_sampler.storage.writers import in_order  # imported late: who stays local needs no threads

        return in_order(partial(self.read, manifest), names, threads)

    def commit(
        self,
        parent: Manifest | None,
        write: Callable[[GenerationWriter], None],
        meta: dict[str, Any],
        *,
        note: str,
        pin: bool,
        observed: int,
    ) -> Manifest:
        """Let `write` put the objects of a new version, or share those of `parent`, then swing the pointer to it.

        `meta`: JSON data for the manifest. `note`, `pin`, `observed`: for the pointer. Raises `StoreError` if the storage
        refuses, and `PointerMoved` if another writer has committed.
        """
        self._still_mine()
        version = self._next()
        self.sweep()
        try:
            writer = GenerationWriter(self.storage, version, parent)
            write(writer)
            manifest, seal = writer.finish(meta)
            self._swing(self.pointer.committed(version, seal, note=note, pinned=pin, observed=observed))
        except OSError as error:
            with contextlib.suppress(OSError):  # a place that cannot be asked now
                self._still_mine()
                if self.pointer.head == version:
                    return manifest  # it was done, and only the answer was lost
                self.sweep()
            raise self._failed(version, error) from error
        return manifest

    @property
    def next(self) -> int:
        """The number that the next commit will most likely have: that of one whose answer was lost is left out."""
        return 1 + max(pointer.highest for pointer in (self.pointer, *self._pending))

    def _next(self) -> int:
        """The number of the next version. Raises `StoreError` if a pointer that names it could not be read."""
        if self.pointer.highest >= MOST:
            raise StoreError(
                f"{self.where} has no number left for another version: {self.pointer.highest} was given out. Nothing was changed. "
                f"Make a new one at another place with {self._kind.make}."
            )
        return self.pointer.highest + 1

    def _failed(self, version: int, error: OSError) -> StoreError:
        """The error for a commit that the storage refused."""
        full = error.errno in FULL
        if self.pointer.head < 0:
            first = "make room there, or name another place" if full else "name a place that can be written to"
            rest = f"No version is there yet: {first}, and call {self._kind.make} again."
        else:
            first = self._kind.room if full else "mend that"
            whole = f"Version {self.pointer.head} is whole, and nothing in memory is lost"
            rest = f"{whole}: {first} and {self._kind.retry}."
        return StoreError(f"commit of version {version} to {self.where} failed: {error.strerror or error}. {rest}")

    def committed(self) -> list[Version]:
        """The commits, oldest first, without version 0, which is empty."""
        return [e.public() for e in self.pointer.entries if e.version > 0]

    def drop(self, keep: int, current: int) -> None:
        """Drop all versions except the newest `keep`, the pinned ones, the head, and `current`, which is open here.

        Raises `StoreError` if the storage refuses, and `PointerMoved` if another writer has committed.
        """
        self._still_mine()
        safe = {e.version for e in self.pointer.entries[-keep:]} | {self.pointer.head, current}
        gone = {e.version for e in self.pointer.entries if e.version not in safe and not e.pinned}
        try:  # the swing before any deletion: a version that is listed must be complete
            if gone:
                self._swing_in_any_room(self.pointer.without(gone))
        except OSError as error:
            remedy = "make some room beside it" if error.errno in FULL else "mend that"
            raise StoreError(
                f"{self.where}: old versions could not be dropped: {error.strerror or error}. Version {self.pointer.head} is "
                f"whole, and no version was touched: {remedy} and drop them again."
            ) from error
        self.sweep()

    def sweep(self) -> None:
        """Delete what no version uses: leftovers of commits that broke off, and versions that were dropped.

        What somebody holds, or what cannot be deleted now, stays until a later sweep. What has a higher number than any
        that was given out here is another writer's, and stays.
        """
        with contextlib.suppress(OSError):
            stay = {e.version for e in self.pointer.entries} | self._sweep_manifests()
            for name in self.storage.names():
                number = _number(name, "v" + NUMBER)
                if name.endswith(PARTIAL) or (number is not None and self._left(number, stay)):
                    self.storage.delete(name)

    def _sweep_manifests(self) -> set[int]:
        """Delete the manifests that are left over. Returns the numbers of those that somebody holds, and so their versions."""
        listed, held = {e.version for e in self.pointer.entries}, set()
        for name in self.storage.names("manifests"):
            number = _number(name, NUMBER + r"\.json")
            if number is None or self._left(number, listed):
                self.storage.delete(f"manifests/{name}")
                if number is not None and self.storage.held(f"manifests/{name}"):
                    held.add(number)
        return held

    def _left(self, version: int, stay: set[int]) -> bool:
        """Whether what has this number is left over: given out by this writer, or about to be, and not to `stay`."""
        return version <= self.pointer.highest + 1 and version not in stay

    def _absent(self, wanted: int) -> UnknownName:
        """The error for a version that is not committed, or no longer kept."""
        known = ", ".join(str(e.version) for e in self.pointer.entries)
        if wanted not in range(self.pointer.highest + 1):
            return UnknownName(f"{self.where} has no version {wanted}: it has {known}. Open one of these.")
        return UnknownName(
            f"{self.where} has version {wanted} no more: it was dropped, by keep= of a commit or by drop_versions. It has "
            f"{known}. A checkpoint that needs {wanted} cannot be resumed: go on from one that needs one of these, and keep as "
            "many versions as were committed since the oldest checkpoint that you keep."
        )

    def _swing(self, pointer: Pointer) -> None:
        raw = pointer.encoded()
        try:
            self.storage.swing(raw, expected=self._raw)
        except Unreachable:
            self._pending.append(pointer)
            raise
        self.pointer, self._raw, self._pending = pointer, raw, []

    def _swing_in_any_room(self, pointer: Pointer) -> None:
        """Swing the pointer; where there is no room for that, delete leftovers and try once more."""
        try:
            self._swing(pointer)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.sweep()
            self._swing(pointer)

    def _still_mine(self) -> None:
        """Raise `PointerMoved` if another writer has committed; else a sweep would delete what that writer committed.

        A swing of this writer's that seemed to fail may have been done, if only the answer to it was lost; or it may still
        come. It comes to nothing once the pointer has been changed by another one.
        """
        found = self.storage.pointer()
        if found != self._raw:
            done = next((pointer for pointer in self._pending if pointer.encoded() == found), None)
            if done is None:
                raise PointerMoved.at(self.where)
            self.pointer, self._raw, self._pending = done, found, []
        elif self._pending and self.pointer.head >= 0:
            self._swing(replace(self.pointer, highest=self._next()))


def _number(name: str, form: str) -> int | None:
    """The number in a name of that form, or None if the name has another form."""
    found = re.fullmatch(form, name)
    return int(found[1]) if found else None
