"""An index that somebody else made: with every checksum made good, it is used as it says or refused by us."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler.errors import AdaptiveSamplerError, StoreDamaged
from adaptive_sampler.shards import ShardIndex, ShardReader
from adaptive_sampler.storage.generation import seal
from adaptive_sampler.storage.pointer import decoded
from tests.shards.tars import index_of, plan_of, shards

JUNK: list[Any] = [None, True, -1, 1.5, float("nan"), "", "a", [], {}, [1], ["a"], [["a"]], [["a", "b"]], 10**30]


def change_manifest(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of version 0, and its seal in the pointer."""
    file, current = place / "manifests/0.json", place / "CURRENT"
    manifest = json.loads(file.read_text())
    change(manifest)
    raw = json.dumps(manifest).encode()
    file.write_bytes(raw)
    pointer = decoded(current.read_bytes(), "here")
    current.write_bytes(replace(pointer, entries=(replace(pointer.entries[0], manifest=seal([raw])),)).encoded())


def change_column(place: Path, name: str, values: list[int]) -> None:
    """Replace a column of version 0, and its seal in the manifest."""
    file = place / "v0" / name / "c" / "0"
    old = np.frombuffer(
        file.read_bytes(), json.loads((place / "manifests/0.json").read_text())["meta"]["columns"][name][0]
    )
    data = np.array(values, old.dtype).tobytes()
    file.write_bytes(data)
    change_manifest(place, lambda manifest: manifest["objects"].update({f"{name}/c/0": seal([data])}))


def read(place: Path) -> None:
    index = ShardIndex.open(place)
    assert len(index.keys) == len(index)
    list(ShardReader(index, plan_of(len(index), range(len(index))), window=0))


@pytest.mark.parametrize(
    "names", [["bin", "bin"], ["bin", "__index__"], ["__key__", "cls"], "ab", {"bin": 1, "cls": 2}]
)
def test_parts_that_no_sample_has_are_refused(tmp_path: Path, names: Any) -> None:
    index_of(tmp_path, [3])
    change_manifest(tmp_path / "index", lambda manifest: manifest["meta"].update(layouts=[names]))
    with pytest.raises(StoreDamaged, match="is none of an index of shards"):
        ShardIndex.open(tmp_path / "index")


@pytest.mark.parametrize(
    ("name", "values"),
    [("layout", [0, 0, 1]), ("layout", [0, 0, 2**31]), ("member_ends", [2, 4, 5]), ("member_ends", [1, 4, 6])],
)
def test_columns_that_do_not_fit_are_neither_read_nor_built_upon(tmp_path: Path, name: str, values: list[int]) -> None:
    index_of(tmp_path, [3])
    change_column(tmp_path / "index", name, values)
    with pytest.raises(StoreDamaged, match="more members or fewer than part names"):
        read(tmp_path / "index")
    with pytest.raises(StoreDamaged, match=r"more members or fewer than part names.*another folder"):
        ShardIndex.build(shards(tmp_path, [3, 4]), tmp_path / "index")
    assert len(ShardIndex.build(shards(tmp_path, [3, 4]), tmp_path / "another folder")) == 7  # the remedy


@pytest.mark.parametrize(
    "name", ["format", "urls", "stamps", "layouts", "damage", "missing", "again", "columns", "no such name"]
)
def test_whatever_a_manifest_says_every_error_is_ours(tmp_path: Path, name: str) -> None:
    urls = shards(tmp_path, [3, 4])
    for number, value in enumerate(JUNK):
        place = tmp_path / str(number)
        ShardIndex.build(urls[:1], place)
        change_manifest(place, lambda manifest, value=value: manifest["meta"].update({name: value}))  # type: ignore[misc]
        for use in (read, lambda place: ShardIndex.build(urls, place)):
            with contextlib.suppress(AdaptiveSamplerError):
                use(place)
