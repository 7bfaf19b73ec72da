"""A plan that no sampler saves is refused, though its checksums are right."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import StoreDamaged
from tests.storage.foreign.changes import JUNK, N, changed


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("n",), [*JUNK, 0, 21, 2**50]),
        (("policy",), [None, 1, "x", []]),
        (("seed",), [None, True, 1.5, "1", [], {}, 10**30]),
        (("epoch",), [None, True, -1, 1.5, "1", [], {}]),
        (("made_from",), [*JUNK, [1], [1, 2, 3], [True, 0], [-1, 0], ["1", 0], [1.0, 0]]),
        (("files",), [None, 1, ["weights.npy"], {"../plan.json": 1}, {"id.npy": 1}, {"n.npy": 1}, {"plan.json": 1}]),
        (("id",), [None, 1, "0" * 16]),
    ],
)
def test_a_plan_that_no_sampler_saves_is_refused(
    place: Path, sound: tuple[Path, str], path: tuple[Any, ...], values: list[Any]
) -> None:
    file = place / "plans" / sound[1] / "plan.json"
    before = file.read_text()
    for value in values:
        about = json.loads(before)
        changed(about, path, value)
        file.write_text(json.dumps(about))
        with pytest.raises(StoreDamaged, match="is not a plan as it was saved"):
            ScoreStore.open(place, mode="r").plan(sound[1])


def npy(array: np.ndarray, tmp_path: Path) -> bytes:
    np.save(tmp_path / "array.npy", array)
    return (tmp_path / "array.npy").read_bytes()


@pytest.mark.parametrize(
    "array",
    [
        np.float32(1),
        np.ones((N, 1), np.float32),
        np.ones(3, np.float32),
        np.ones(N, np.int64),
        np.array(["x"] * N),
        np.zeros(N, [("a", "f4")]),
        np.zeros(0, np.float32),
    ],
)
@pytest.mark.parametrize("name", ["kept.npy", "counts.npy", "weights.npy"])
def test_a_plans_array_of_another_form_is_refused(
    place: Path, sound: tuple[Path, str], tmp_path: Path, name: str, array: np.ndarray
) -> None:
    resealed_plan(place / "plans" / sound[1], name, npy(array, tmp_path))
    with pytest.raises(StoreDamaged, match="is not a plan as it was saved"):
        ScoreStore.open(place, mode="r").plan(sound[1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY\x01\x00\x46\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,)}".ljust(70),
        b"\x93NUMPY\x01\x00\x46\x00" + b"(" * 70,
        b"\x93NUMPY\x09\x00\x46\x00",
        b"cos\nsystem\n(S'exit 1'\ntR.",
    ],
)
def test_what_is_no_array_is_no_part_of_a_plan(place: Path, sound: tuple[Path, str], data: bytes) -> None:
    resealed_plan(place / "plans" / sound[1], "weights.npy", data)
    with pytest.raises(StoreDamaged, match="is not a plan as it was saved"):
        ScoreStore.open(place, mode="r").plan(sound[1])


def resealed_plan(folder: Path, name: str, data: bytes) -> None:
    about = json.loads((folder / "plan.json").read_text())
    about["files"][name] = checksum([data])
    (folder / name).write_bytes(data)
    (folder / "plan.json").write_text(json.dumps(about))
