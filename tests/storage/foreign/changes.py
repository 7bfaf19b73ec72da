"""How somebody else changes a store with every checksum made good, what lies beside it, and a use of all of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adaptive_sampler import ScoreStore
from adaptive_sampler.disk import checksum
from adaptive_sampler.storage.generation import seal

N = 20
JUNK: list[Any] = [None, True, -1, 1.5, float("nan"), "1", [], {}, [1], 10**30]


def outside(place: Path) -> dict[str, bytes]:
    """What lies beside the store."""
    found = (place.parent / "outside").rglob("*")
    return {str(path): path.read_bytes() for path in found if path.is_file()}


def changed(data: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = value


def change_pointer(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    body = json.loads((place / "CURRENT").read_text())
    body.pop("checksum")
    change(body)
    body["checksum"] = checksum([json.dumps(body, sort_keys=True).encode()])
    (place / "CURRENT").write_text(json.dumps(body))


def change_manifest(place: Path, change: Callable[[dict[str, Any]], None], version: int = 2) -> None:
    """Change the manifest of a version, and its seal in the pointer."""
    name = place / f"manifests/{version}.json"
    manifest = json.loads(name.read_text())
    change(manifest)
    name.write_text(json.dumps(manifest))
    reseal(place, name.read_bytes(), version)


def reseal(place: Path, manifest: bytes, version: int = -1) -> None:
    change_pointer(place, lambda body: changed(body, ("versions", version, "manifest"), seal([manifest])))


def use(place: Path) -> None:
    """Open the store, read all of it, commit to it, and drop what can be dropped."""
    with ScoreStore.open(place) as store:
        for name in store.names:
            _ = store[name], store.count(name), store.last_seen(name)
        store.rows(["key 3"])
        _ = store.columns["source"], store.columns["tokens"]
        store.versions()
        store.fold("loss", [0], [5])
        store.commit(keep=1)
