"""What a store keeps on its storage: its scores as versions, and the plans that were made from them."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adaptive_sampler.errors import MALFORMED, StoreDamaged
from adaptive_sampler.memory.book import Load
from adaptive_sampler.memory.taken import TakenBook
from adaptive_sampler.memory.user_column import Read
from adaptive_sampler.scoring.base import BOOKKEEPING
from adaptive_sampler.storage.base import Storage
from adaptive_sampler.storage.generation import GenerationWriter, Manifest
from adaptive_sampler.storage.meta import check_meta
from adaptive_sampler.storage.plans import StorePlans
from adaptive_sampler.storage.versions import Kind, Versions

STORE = Kind("store", "ScoreStore.create(path, n, scores)", "ScoreStore.create(..., overwrite=True)")


class Repository:
    """A store on its storage: `versions` of its scores, and the `plans` that were made from them."""

    def __init__(self, storage: Storage) -> None:
        self.versions, self.plans = Versions(storage, STORE), StorePlans(storage)

    def load(self, manifest: Manifest, at: str = "") -> Load:
        """A function that reads chunks of the scores of a version, of those whose names begin with `at`."""
        return lambda places: self.versions.read_all(
            manifest, [f"{at}{score}/{column}/c/{chunk}" for score, column, chunk in places]
        )

    def read(self, manifest: Manifest, name: str) -> Read:
        """A function that reads chunks of a column of the user's own from a version."""
        return lambda places: self.versions.read_all(manifest, [f"{name}/{array}/c/{chunk}" for array, chunk in places])

    def arrays(self, manifest: Manifest, names: Sequence[str]) -> list[np.ndarray]:
        """The bytes of arrays beside the scores, each of which is a single chunk. Raises `KeyError` if there is none."""
        found = self.versions.read_all(manifest, [f"{name}/c/0" for name in names])
        arrays = {name: octets for name, octets in zip(names, found, strict=True) if octets is not None}
        return [arrays[name] for name in names]

    def commit(
        self,
        parent: Manifest | None,
        books: Iterable[TakenBook],
        beside: Mapping[str, list[np.ndarray] | None],
        layout: Mapping[str, bytes] | None,
        meta: dict[str, Any],
        *,
        note: str,
        pin: bool,
        observed: int,
    ) -> Manifest:
        """Write the scores as a new version.

        `beside`: the objects beside the scores, by name, with their parts; None: share that of the parent. `layout`: the
        zarr.json objects; None: share those of the parent. The other arguments, and the errors, are those of
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
        spared, pointer = self._named().union(in_force), self.versions.pointer
        self.plans.drop(lambda plan, made_from: plan not in spared and pointer.entry(made_from.commit) is None)

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


def _put_layout(writer: GenerationWriter, parent: Manifest | None, layout: Mapping[str, bytes] | None) -> None:
    """Write the zarr.json objects of `layout`, or share the parent's."""
    if layout is not None:
        for name, data in layout.items():
            writer.put(name, [data])
    for name in parent.objects if parent and layout is None else ():
        if name.endswith("zarr.json"):
            writer.share(name)


def _put_book(writer: GenerationWriter, book: TakenBook) -> None:
    """Write the changed chunks of all columns, and share the others with the parent.

    The columns that the scores of a book have in common are written for the first score, and shared by the others.
    """
    first, *others = book.scores
    for index, changed in enumerate(book.dirty):
        parts = book.chunk_parts(index) if changed else {}
        for score, name in book.keys:
            at = f"{book.at}{score or first.name}/{name}/c/{index}"
            if changed:
                writer.put(at, parts[score, name])
            else:
                writer.share(at)  # does nothing for a chunk that was never written, as it is all fill
    for other in others:
        writer.copy_later(book.at + first.name, book.at + other.name, BOOKKEEPING)
