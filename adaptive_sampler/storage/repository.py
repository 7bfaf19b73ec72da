"""What a store keeps on its storage: its scores as versions, and the plans that were made from them."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from adaptive_sampler.disk import FULL
from adaptive_sampler.errors import MALFORMED, StoreDamaged, StoreError, UnknownName
from adaptive_sampler.memory.book import Book, Load
from adaptive_sampler.plan import FILES, PLAN_ID, Plan, from_files, origin_of
from adaptive_sampler.scoring.base import BOOKKEEPING
from adaptive_sampler.storage.base import Storage
from adaptive_sampler.storage.generation import GenerationWriter, Manifest
from adaptive_sampler.storage.meta import check_meta
from adaptive_sampler.storage.versions import Kind, Versions

PLANS = "plans"
STORE = Kind("store", "ScoreStore.create(path, n, scores)", "ScoreStore.create(..., overwrite=True)")


class Repository:
    """A store on its storage: `versions` of its scores, and plans, each under its id."""

    def __init__(self, storage: Storage) -> None:
        self.versions = Versions(storage, STORE)
        self._storage, self._where = storage, storage.where

    def loader(self, manifest: Manifest, score: str) -> Load:
        """A function (column, chunk number) that reads the chunks of a score from a version."""
        return lambda column, chunk: self.versions.read(manifest, f"{score}/{column}/c/{chunk}")

    def array(self, manifest: Manifest, name: str) -> np.ndarray:
        """The bytes of an array beside the scores, which is a single chunk. Raises `KeyError` if there is none."""
        found = self.versions.read(manifest, f"{name}/c/0")
        if found is None:
            raise KeyError(name)
        return found

    def commit(
        self,
        parent: Manifest | None,
        books: Iterable[Book],
        beside: Mapping[str, list[np.ndarray] | None],
        layout: Callable[[], Mapping[str, bytes]] | None,
        meta: dict[str, Any],
        *,
        note: str,
        pin: bool,
        observed: int,
    ) -> Manifest:
        """Write the scores as a new version.

        `beside`: the objects beside the scores, by name, with their parts; None: share that of the parent. `layout`: makes
        the zarr.json objects; None: share those of the parent. The other arguments, and the errors, are those of
        `Versions.commit`.
        """

        def write(writer: GenerationWriter) -> None:
            _put_layout(writer, parent, layout)
            for name, parts in beside.items():
                if parts is None:
                    writer.share(name)
                else:
                    writer.put(name, parts)
            for book in books:
                _put_book(writer, book)

        return self.versions.commit(parent, write, meta, note=note, pin=pin, observed=observed)

    def drop(self, keep: int, current: int, in_force: Iterable[str]) -> None:
        """Drop versions, as `Versions.drop` does, and the plans that were made from them.

        A plan stays if it is `in_force`, or was in force when a version was committed that stays, because a state that was
        saved with that version names it.
        """
        self.versions.drop(keep, current)
        self._drop_plans(self._named().union(in_force))

    def _named(self) -> set[str]:
        """The ids of the plans that were in force when the present versions were committed."""
        named: set[str] = set()
        for entry in self.versions.pointer.entries:
            # A version whose manifest is damaged cannot be opened, so no state needs its plans.
            with contextlib.suppress(StoreDamaged, *MALFORMED):
                meta = self.versions.manifest(entry.version).meta
                check_meta(meta, entry.version)
                named.update(meta.get("plans", ()))
        return named

    def _drop_plans(self, spared: set[str]) -> None:
        """Delete the plans whose version is gone, except those `spared`."""
        for plan in self._plans():
            try:
                made_from, _ = origin_of(self._storage.get(f"{PLANS}/{plan}/plan.json"))
                orphaned = plan not in spared and self.versions.pointer.entry(made_from.commit) is None
            except FileNotFoundError:
                orphaned = True  # half of a plan, left by a process that was killed
            except (ValueError, OSError, StoreDamaged):
                orphaned = False  # damaged: it stays, so that reading it says so
            if orphaned:
                self._storage.delete(f"{PLANS}/{plan}")

    def save_plan(self, plan: Plan) -> None:
        """Save a plan durably; does nothing if it is saved already. Raises `StoreError` if the storage refuses."""
        at = f"{PLANS}/{plan.id}"
        if "plan.json" in self._storage.names(at):
            return
        files = plan.files()
        about = files.pop("plan.json")  # written last, because it says that the plan is complete
        try:
            for name, data in files.items():
                self._storage.put(f"{at}/{name}", [data])
            if files:
                self._storage.flush()
            self._storage.put(f"{at}/plan.json", [about])
            self._storage.flush()
        except OSError as error:
            self._storage.delete(at)
            remedy = "make room (drop_versions takes old plans away too)" if error.errno in FULL else "mend that"
            raise StoreError(
                f"plan {plan.id} could not be kept in {self._where}: {error.strerror or error}. An epoch could not be resumed "
                f"without it: {remedy} and ask again."
            ) from error

    def plan(self, plan_id: str) -> Plan:
        """A saved plan. Raises `UnknownName` if there is none of that id, `StoreDamaged` if its files were changed."""
        known = self._plans()
        if plan_id not in known:
            raise UnknownName(
                f"{self._where} holds no plan {plan_id!r}. It was made from a version that has been dropped, or in another "
                f"store; {len(known)} plans are here. Start the epoch anew, or keep its version (commit(pin=True))."
            )
        at = f"{PLANS}/{plan_id}"
        names = [name for name in self._storage.names(at) if name in FILES]
        try:
            files = {name: self._storage.get(f"{at}/{name}") for name in names}
        except OSError as error:
            raise StoreDamaged(
                f"{self._where}/{at} cannot be read: {error.strerror or error}. Make it readable, or delete that folder; the "
                "sampler plans again at its next epoch."
            ) from error
        plan = from_files(files, f"{self._where}/{at}")
        if plan.id != plan_id:
            raise StoreDamaged(
                f"{self._where}/{at} holds plan {plan.id}: folders were exchanged. Delete that folder; the sampler plans again at "
                "its next epoch."
            )
        return plan

    def newest_plan(self) -> Plan | None:
        """The newest saved plan: newest by the scores that it was made from, then by its epoch; None if none is saved.

        Raises `StoreDamaged` if the files of any plan were changed, as they say which one is the newest.
        """
        whole = [name for name in self._plans() if "plan.json" in self._storage.names(f"{PLANS}/{name}")]
        return max(map(self.plan, whole), key=lambda plan: (plan.made_from, plan.epoch, plan.id), default=None)

    def _plans(self) -> list[str]:
        """The ids of the plans that are saved, whole or not."""
        return [name for name in self._storage.names(PLANS) if PLAN_ID.fullmatch(name)]


def _put_layout(
    writer: GenerationWriter, parent: Manifest | None, layout: Callable[[], Mapping[str, bytes]] | None
) -> None:
    """Write the zarr.json objects that `layout` makes, or share the parent's."""
    if layout is not None:
        for name, data in layout().items():
            writer.put(name, [data])
    for name in parent.objects if parent and layout is None else ():
        if name.endswith("zarr.json"):
            writer.share(name)


def _put_book(writer: GenerationWriter, book: Book) -> None:
    """Write the changed chunks of all columns, and share the others with the parent.

    The columns that the scores of a book have in common are written for the first score, and shared by the others.
    """
    first, *others = book.scores
    for index, changed in enumerate(book.dirty):
        parts = book.chunk_parts(index) if changed else {}
        for score, name in book.keys:
            at = f"{score or first.name}/{name}/c/{index}"
            if changed:
                writer.put(at, parts[score, name])
            else:
                writer.share(at)  # does nothing for a chunk that was never written, as it is all fill
    for other in others:
        writer.copy_later(first.name, other.name, BOOKKEEPING)
