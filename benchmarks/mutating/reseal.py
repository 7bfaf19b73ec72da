"""Edits whose checksums are made good again: then it is the validation of values that must notice, if anything does."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler.disk import checksum
from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.storage.generation import seal
from benchmarks.mutating import damage, text
from benchmarks.mutating.folder import Folder, NothingToMutate

OBJECTS = ("columns", "keys", "zarr.json")


def pointer_value(folder: Folder) -> tuple[str, str]:
    done = text.changed(folder, of=["CURRENT"])
    _seal_pointer(folder)
    return done


def manifest_value(folder: Folder) -> tuple[str, str]:
    done = text.changed(folder, of=["manifests"])
    _seal_manifests(folder)
    return done


def manifest_about(folder: Folder) -> tuple[str, str]:
    """As `manifest_value`, in what the manifest says beside the checksums of the files."""
    done = text.changed(folder, of=["manifests"], only="meta")
    _seal_manifests(folder)
    return done


def object_bytes(folder: Folder) -> tuple[str, str]:
    """Other bytes in one of a version's files, or another length of it."""
    name = folder.file(filled=True, of=OBJECTS)
    data = bytearray(folder.read(name))
    how = folder.one(("changed", "cut", "grown", "emptied"))
    if how == "changed":
        start = int(folder.rng.integers(len(data)))
        more = folder.rng.bytes(int(folder.rng.integers(1, 16)))
        data[start : start + len(more)] = more[: len(data) - start]
    else:
        more = folder.rng.bytes(8 * int(folder.rng.integers(1, 9))) if how == "grown" else b""
        data = data[: {"cut": int(folder.rng.integers(len(data))), "emptied": 0}.get(how)] + more
    folder.write(name, bytes(data))
    _seal_objects(folder)
    _seal_manifests(folder)
    return name, how


def objects_swapped(folder: Folder) -> tuple[str, str]:
    done = damage.swap(folder)
    _seal_objects(folder)
    _seal_manifests(folder)
    return done


def plan_value(folder: Folder) -> tuple[str, str]:
    done = text.changed(folder, of=["plan.json"])
    _seal_plan(folder, done[0])
    return done


def _json(folder: Folder, name: str) -> Any:
    """What a file holds as JSON; an empty object for one that holds none."""
    try:
        return json.loads(folder.read(name))
    except (ValueError, OSError, RecursionError):
        return {}


def _seal_objects(folder: Folder) -> None:
    """Let each manifest list its files with the sizes and checksums that they have now."""
    for name in folder.files():
        if not name.startswith("manifests/"):
            continue
        manifest, version = _json(folder, name), name.removeprefix("manifests/").removesuffix(".json")
        objects = manifest.get("objects") if isinstance(manifest, dict) else None
        for key in objects if isinstance(objects, dict) else ():
            file = folder.path / f"v{version}" / key
            if file.is_file():
                objects[key] = seal([file.read_bytes()])
        if isinstance(objects, dict):
            folder.write(name, json.dumps(manifest).encode())


def _seal_manifests(folder: Folder) -> None:
    """Let the pointer list each manifest with its checksum of now."""
    pointer = _json(folder, "CURRENT")
    for entry in pointer.get("versions", ()):
        manifest = folder.path / f"manifests/{entry['version']}.json"
        if manifest.is_file():
            entry["manifest"] = seal([manifest.read_bytes()])
    if "versions" not in pointer:
        raise NothingToMutate
    folder.write("CURRENT", json.dumps(pointer).encode())
    _seal_pointer(folder)


def _seal_pointer(folder: Folder) -> None:
    pointer = _json(folder, "CURRENT")
    if isinstance(pointer, dict) and "checksum" in pointer:
        body = {key: value for key, value in pointer.items() if key != "checksum"}
        good = checksum([json.dumps(body, sort_keys=True).encode()])
        folder.write("CURRENT", json.dumps(body | {"checksum": good}).encode())


def _seal_plan(folder: Folder, name: str) -> None:
    """Give a plan the id that its content has now, and its folder the same name, where the content still makes a plan."""
    about, at = _json(folder, name), folder.path / name
    try:
        parts = [about[key] for key in ("n", "policy", "seed", "epoch")]
        plan = Plan(*parts, MadeFrom(*about["made_from"]), **_arrays(at.parent, about["files"]))
        about["id"] = plan.id
    except Exception:  # no plan any more: it stays with its old id
        return
    folder.write(name, json.dumps(about).encode())
    if not at.parent.with_name(plan.id).exists():
        at.parent.rename(at.parent.with_name(plan.id))


def _arrays(at: Path, files: dict[str, int]) -> dict[str, Any]:
    return {name.removesuffix(".npy"): np.load(at / name) for name in files}
