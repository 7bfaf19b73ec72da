"""The versions and plans of one store in its storage: read them, commit one, drop old ones."""

import contextlib
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import StoreDamaged, StoreError, UnknownName
from adaptive_sampler.memory.book import Book, Load
from adaptive_sampler.plan import Plan, from_files, scores_of
from adaptive_sampler.scoring.base import BOOKKEEPING
from adaptive_sampler.storage.base import Storage
from adaptive_sampler.storage.generation import GenerationWriter, Manifest, folder, manifest_name, read, read_manifest
from adaptive_sampler.storage.pointer import Pointer, Version, read_pointer

PLANS = "plans"


class Repository:
    """A store at rest. Its pointer is read at opening and after that changed by this writer alone."""

    def __init__(self, storage: Storage, where: str) -> None:
        self._storage, self._where = storage, where
        self.pointer: Pointer

    def create(self) -> None:
        """Begin an empty store."""
        self.pointer = Pointer(uuid.uuid4().hex)

    def open(self) -> None:
        """Read the pointer as it is now."""
        self.pointer = read_pointer(self._storage, self._where)

    def manifest(self, version: int | None) -> Manifest:
        """The manifest of `version`, or of the head. Raises `UnknownName` for a version that is not committed."""
        wanted = self.pointer.head if version is None else version
        entry = self.pointer.entry(wanted)
        if entry is None:
            known = ", ".join(str(e.version) for e in self.pointer.entries)
            raise UnknownName(f"{self._where} has no version {wanted}: it has {known}. Open one of these.")
        try:
            return read_manifest(self._storage, wanted, entry.manifest)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDamaged(f"{self._where}: the manifest of version {wanted} is not one ({error}).") from error

    def loader(self, manifest: Manifest, score: str) -> Load:
        """Reads the chunks of a score's columns from a version."""

        def load(column: str, chunk: int) -> np.ndarray | None:
            name = f"{score}/{column}/c/{chunk}"
            if name not in manifest.objects:
                return None
            return read(self._storage, manifest.version, name, manifest.objects[name])

        return load

    def array(self, manifest: Manifest, name: str) -> np.ndarray:
        """The bytes of one of a version's other arrays, which are one chunk each."""
        return read(self._storage, manifest.version, f"{name}/c/0", manifest.objects[f"{name}/c/0"])

    def commit(
        self,
        parent: Manifest | None,
        books: Iterable[Book],
        arrays: Mapping[str, np.ndarray],
        layout: Callable[[], Mapping[str, bytes]] | None,
        meta: dict[str, Any],
        *,
        note: str,
        pin: bool,
        observed: int,
    ) -> Manifest:
        """Write a version and swing the pointer to it. `layout`: makes new zarr.json objects; None: the parent's."""
        self._sweep()
        version = self.pointer.highest + 1
        try:
            writer = GenerationWriter(self._storage, version, parent)
            _put_layout(writer, parent, layout)
            for name, array in arrays.items():
                writer.put(f"{name}/c/0", [array])
            for book in books:
                _put_book(writer, book)
            manifest, manifest_seal = writer.finish(meta)
            pointer = self.pointer.committed(version, manifest_seal, note=note, pinned=pin, observed=observed)
            pointer.swing(self._storage)
        except OSError as error:
            self._sweep()
            raise StoreError(
                f"commit of version {version} to {self._where} failed: {error.strerror or error}. Version "
                f"{self.pointer.head} is whole, and nothing in memory is lost: make room (drop_versions) and commit again."
            ) from error
        self.pointer = pointer
        return manifest

    def versions(self) -> list[Version]:
        """The commits, oldest first. Version 0, the empty store, is none."""
        return [e.public() for e in self.pointer.entries if e.version > 0]

    def drop(self, keep: int, current: int, in_force: Iterable[str]) -> None:
        """Drop all but the newest `keep` versions, those pinned, the head, and the one open here; and their plans, unless
        they are `in_force`, or were when a version that stays was committed: a state saved with it names them.
        """
        whole_number("keep", keep, 1, what="how many versions stay", otherwise="; the newest is never dropped")
        safe = {e.version for e in self.pointer.entries[-keep:]} | {self.pointer.head, current}
        gone = {e.version for e in self.pointer.entries if e.version not in safe and not e.pinned}
        pointer = self.pointer.without(gone)
        pointer.swing(self._storage)  # first: a version that is listed must be whole
        self.pointer = pointer
        self._sweep()
        self._drop_plans(self._named().union(in_force))

    def _named(self) -> set[str]:
        """The plans that were in force at the commits."""
        named: set[str] = set()
        for entry in self.pointer.entries:
            with contextlib.suppress(StoreDamaged):  # such a version cannot be opened, so nobody goes on from it
                named.update(self.manifest(entry.version).meta.get("plans", ()))
        return named

    def _drop_plans(self, spared: set[str]) -> None:
        """Delete the plans whose version is gone, but for those `spared`."""
        for plan in self._storage.names(PLANS):
            try:
                made_from = scores_of(self._storage.get(f"{PLANS}/{plan}/plan.json"))
                orphaned = plan not in spared and self.pointer.entry(made_from.commit) is None
            except FileNotFoundError:
                orphaned = True  # half of a plan, left by a process that was killed
            except (ValueError, NotADirectoryError):
                orphaned = False  # damaged, which is for whoever asks for it to hear, or none of ours
            if orphaned:
                self._storage.delete(f"{PLANS}/{plan}")

    def save_plan(self, plan: Plan) -> None:
        """Keep a plan, durably; a plan that is kept already stays as it is. Raises `StoreError` where the disk refuses."""
        at = f"{PLANS}/{plan.id}"
        if "plan.json" in self._storage.names(at):
            return
        files = plan.files()
        about = files.pop("plan.json")  # it makes the others a plan, so they must be there before
        try:
            for name, data in files.items():
                self._storage.put(f"{at}/{name}", [data])
            if files:
                self._storage.flush()
            self._storage.put(f"{at}/plan.json", [about])
            self._storage.flush()
        except OSError as error:
            self._storage.delete(at)
            raise StoreError(
                f"plan {plan.id} could not be kept in {self._where}: {error.strerror or error}. An epoch could not be resumed "
                "without it: make room (drop_versions takes old plans away too) and ask again."
            ) from error

    def plan(self, plan_id: str) -> Plan:
        """A kept plan. Raises `UnknownName`."""
        known = self._storage.names(PLANS)
        if plan_id not in known or not re.fullmatch(r"[0-9a-f]{16}", plan_id):
            raise UnknownName(
                f"{self._where} holds no plan {plan_id!r}. It was made from a version that has been dropped, or in another "
                f"store; {len(known)} plans are here. Start the epoch anew, or keep its version (commit(pin=True))."
            )
        at = f"{PLANS}/{plan_id}"
        files = {
            name: self._storage.get(f"{at}/{name}") for name in self._storage.names(at) if not name.endswith(".partial")
        }
        return from_files(files, f"{self._where}/{at}")

    def _sweep(self) -> None:
        """Delete what a killed commit left."""
        folders = {folder(e.version) for e in self.pointer.entries}
        manifests = {manifest_name(e.version) for e in self.pointer.entries}
        found = [*self._storage.names(), *(f"manifests/{name}" for name in self._storage.names("manifests"))]
        for name in found:
            leftover = re.fullmatch(r"v\d+|manifests/.*", name) and name not in folders | manifests
            if leftover or name.endswith(".partial"):
                self._storage.delete(name)


def _put_layout(
    writer: GenerationWriter, parent: Manifest | None, layout: Callable[[], Mapping[str, bytes]] | None
) -> None:
    """The zarr.json objects, and the arrays beside the scores that stay."""
    if layout is not None:
        for name, data in layout().items():
            writer.put(name, [data])
    for name in parent.objects if parent else ():
        if (name.endswith("zarr.json") and layout is None) or (name.startswith("keys/") and name.endswith("/c/0")):
            writer.share(name)


def _put_book(writer: GenerationWriter, book: Book) -> None:
    """The chunks of all columns; those that the scores share are written for the first and shared by the others."""
    first, *others = book.scores
    for index, changed in enumerate(book.dirty):
        parts = book.chunk_parts(index) if changed else {}
        for score, name in book.keys:
            at = f"{score or first.name}/{name}/c/{index}"
            if changed:
                writer.put(at, parts[score, name])
            else:
                writer.share(at)  # False: never observed, all fill, no file
    for other in others:
        writer.copy_later(first.name, other.name, BOOKKEEPING)
