"""One committed version: an immutable folder of objects, and a manifest with the size and checksum of each object."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adaptive_sampler.checks import is_whole
from adaptive_sampler.disk import checksum, nbytes
from adaptive_sampler.errors import StoreDamaged, Unreachable
from adaptive_sampler.storage.base import Storage

OBJECT = re.compile(r"(\w+/)*(\w+|zarr\.json)")  # no name may lead out of the version's folder
Seal = tuple[int, int]  # size in bytes, crc32c


@dataclass(frozen=True)
class Manifest:
    """What a version consists of.

    `objects`: the seal of each object, by its name within the version's folder. `meta`: the metadata of the store.
    """

    version: int
    meta: dict[str, Any]
    objects: dict[str, Seal] = field(default_factory=dict)


def folder(version: int) -> str:
    """The name of a version's folder."""
    return f"v{version}"


def manifest_name(version: int) -> str:
    """The name of a version's manifest. It lies outside the version's folder, which holds nothing but Zarr."""
    return f"manifests/{version}.json"


def seal(parts: Sequence[np.ndarray | bytes]) -> Seal:
    """The size in bytes and the CRC-32C of the concatenated parts."""
    return nbytes(parts), checksum(parts)


class GenerationWriter:
    """Writes the objects of a new version, or shares them with `parent`, the version that it was made from."""

    def __init__(self, storage: Storage, version: int, parent: Manifest | None) -> None:
        self._storage, self._parent = storage, parent
        self._manifest = Manifest(version, {})
        self._copies: list[tuple[str, str]] = []

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        """Write a new object."""
        self._storage.put(f"{folder(self._manifest.version)}/{name}", parts)
        self._manifest.objects[name] = seal(parts)

    def share(self, name: str) -> bool:
        """Share the parent's object of that name. Returns False if the parent has none."""
        if self._parent is None or name not in self._parent.objects:
            return False
        self._storage.share(f"{folder(self._parent.version)}/{name}", f"{folder(self._manifest.version)}/{name}")
        self._manifest.objects[name] = self._parent.objects[name]
        return True

    def copy_later(self, source: str, target: str, columns: Iterable[str]) -> None:
        """Let the group `target` share these columns of the group `source`; `finish` does it, once they are written."""
        for column in columns:
            prefix = f"{source}/{column}/c/"
            names = [name for name in self._manifest.objects if name.startswith(prefix)]
            self._copies += [(name, f"{target}/{column}/c/{name.removeprefix(prefix)}") for name in names]

    def finish(self, meta: dict[str, Any]) -> tuple[Manifest, Seal]:
        """Write the manifest and make everything durable. Returns the manifest, and its seal for the pointer."""
        manifest = Manifest(self._manifest.version, meta, self._manifest.objects)
        at = folder(manifest.version)
        self._storage.flush()
        for source, target in self._copies:
            self._storage.share(f"{at}/{source}", f"{at}/{target}")
            manifest.objects[target] = manifest.objects[source]
        body = json.dumps({"version": manifest.version, "meta": meta, "objects": manifest.objects}).encode()
        self._storage.put(manifest_name(manifest.version), [body])
        self._storage.flush()
        return manifest, seal([body])


def read_manifest(storage: Storage, version: int, expected: Seal) -> Manifest:
    """The manifest of a version.

    Raises `StoreDamaged` if it is not the one that was committed, and one of `errors.MALFORMED` if what was committed is no
    manifest of this version.
    """
    data = json.loads(_checked(storage, manifest_name(version), version, expected).tobytes())
    if data["version"] is True or data["version"] != version or not isinstance(data["meta"], dict):
        raise ValueError("version, meta")
    for name in data["objects"]:
        if not OBJECT.fullmatch(name):
            raise ValueError(f"object {name!r}")
    return Manifest(version, data["meta"], {name: checked_seal(value) for name, value in data["objects"].items()})


def checked_seal(value: Any) -> Seal:
    """A seal as JSON has it. Raises `ValueError` if it is none."""
    if not (isinstance(value, list) and len(value) == 2 and is_whole(value[0]) and is_whole(value[1], most=2**32 - 1)):
        raise ValueError(f"seal {value!r}")
    return value[0], value[1]


def read(storage: Storage, version: int, name: str, expected: Seal) -> np.ndarray:
    """The checked bytes of an object, (size,) uint8. Raises `StoreDamaged` if they are not what was committed."""
    return _checked(storage, f"{folder(version)}/{name}", version, expected)


def _checked(storage: Storage, path: str, version: int, expected: Seal) -> np.ndarray:
    """The bytes of the object at `path`.

    Raises `StoreDamaged` if it cannot be read, or if its seal is not `expected`, and `Unreachable` if its
    server does not give it now.
    """
    place = f"{storage.where}/{path}"
    try:
        data = storage.get(path)
    except Unreachable:  # which says nothing of the version
        raise
    except OSError as error:
        raise StoreDamaged(
            f"{place}: cannot be read ({error.strerror or error}) although version {version} was committed with it. If the "
            "version was dropped while this store was open, open it again; else open another of versions()."
        ) from error
    if seal([data]) != expected:
        raise StoreDamaged(
            f"{place}: {len(data)} bytes that are not the {expected[0]} bytes committed (checksum differs). The file was "
            "changed or truncated from outside: restore it from a backup, or open another version of the store."
        )
    return data
