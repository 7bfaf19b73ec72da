"""A store that somebody else made: with every checksum made good, it is refused by us, and nothing outside it is touched."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import AdaptiveSamplerError, StoreDamaged, StoreError
from adaptive_sampler.scoring import Forgetting, Loss
from adaptive_sampler.selection import Draw
from adaptive_sampler.storage.generation import seal
from adaptive_sampler.storage.local import LocalStorage
from adaptive_sampler.storage.pointer import MOST, decoded

N = 20
JUNK: list[Any] = [None, True, -1, 1.5, float("nan"), "1", [], {}, [1], 10**30]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with keys and two columns, the versions 0, 1 and 2 and a plan; and the plan's id."""
    path, keys = tmp_path_factory.mktemp("sound") / "s", [f"key {i}" for i in range(N)]
    own = {"source": ["a", "b"] * (N // 2), "tokens": range(N)}
    with ScoreStore.create(path, N, [Loss(), Forgetting()], keys=keys, columns=own) as store:
        for value in (1, 2):
            store.fold("loss", np.arange(N), np.arange(N) + value)
            store.commit()
        plan = Draw("loss", unbiased=True).plan(store, epoch=0, seed=0)
        store.session.plans.keep(plan)
    return path, plan.id


@pytest.fixture
def place(tmp_path: Path, sound: tuple[Path, str]) -> Path:
    """A copy of that store, beside a folder that belongs to somebody else."""
    shutil.copytree(sound[0], tmp_path / "s")
    for name in ("manifests/9.json", "v1/loss/value/c/0", "plan.json", "kept.npy", "0", "file"):
        (tmp_path / "outside" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "outside" / name).write_text("precious")
    return tmp_path / "s"


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


# -- the pointer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("format",), [None, -1, 0, "1", 1.0, True, []]),
        (("uuid",), [None, 1, [], {}]),
        (("head",), [*JUNK, 0, 1, 3, 2.0]),
        (("highest",), [*JUNK, 0, 1, 2.0]),
        (("versions",), [*JUNK, [None], [{}]]),
        (("versions", 1, "version"), [*JUNK, 0, 2, 7]),
        (("versions", 1, "time"), [None, True, float("nan"), float("inf"), "1", [], {}]),
        (("versions", 1, "note"), [None, 1, [], {}]),
        (("versions", 1, "pinned"), [None, 0, 1, "no", [], {}]),
        (("versions", 1, "observed"), [None, True, -1, 1.5, "1", [], {}]),
        (("versions", 1, "manifest"), [*JUNK, [1, 2, 3], [1.0, 2], [-1, 2], [1, 2**32], [True, 2], "ab"]),
        (("versions", 1, "more"), [1]),
    ],
)
def test_a_pointer_that_no_commit_writes_is_refused(place: Path, path: tuple[Any, ...], values: list[Any]) -> None:
    current = (place / "CURRENT").read_bytes()
    for value in values:
        (place / "CURRENT").write_bytes(current)
        change_pointer(place, lambda body, value=value: changed(body, path, value))
        for mode in ("r", "r+"):
            with pytest.raises(StoreDamaged, match="CURRENT is not what a commit wrote"):
                ScoreStore.open(place, mode=mode)


@pytest.mark.parametrize("plans", [1e300, [[1]], "text", [None]])
def test_plans_that_an_older_manifest_does_not_name_are_no_plans_when_others_are_dropped(
    place: Path, plans: Any
) -> None:
    change_manifest(place, lambda body: changed(body, ("meta", "plans"), plans), version=1)
    with ScoreStore.open(place) as store:
        store.drop_versions(keep=2)
    with pytest.raises(StoreDamaged, match="makes no store"):
        ScoreStore.open(place, version=1, mode="r")


def test_a_store_without_a_number_for_another_version_stays_readable(place: Path) -> None:
    change_pointer(place, lambda body: changed(body, ("highest",), MOST))
    with ScoreStore.open(place) as store:
        store.fold("loss", [0], [5])
        with pytest.raises(StoreError, match=r"no number left for another version.*ScoreStore\.create"):
            store.commit()
        store.drop_versions(keep=1)
    assert ScoreStore.open(place, mode="r")["loss"][0] == 2
    ScoreStore.create(place.parent / "new", N, [Loss()]).close()  # the remedy


@pytest.mark.parametrize("content", ["", "[" * 100_000, "1e400", '"' + "x" * 100, "null", "[]", '{"format": 1}', "\0"])
def test_what_is_no_pointer_is_refused(place: Path, content: str) -> None:
    (place / "CURRENT").write_text(content)
    with pytest.raises(StoreDamaged, match="CURRENT is not what a commit wrote"):
        ScoreStore.open(place)


# -- the manifest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("version",), [*JUNK, 1, 3]),
        (("meta",), [None, 1, [], "meta", {}]),
        (("objects",), [None, 1, [], ["loss/value/c/0"], "objects"]),
        (("objects", "loss/value/c/0"), [*JUNK, [80.0, 1], [80, True], [80, 2**32], [80, -1], {"0": 80}]),
        *(
            (("objects", name), [[1, 2]])
            for name in (
                "../../outside/file",
                "/etc/passwd",
                "loss/../../../file",
                "",
                ".",
                "..",
                "a//b",
                "a/",
                "a\0b",
                "a.b",
            )
        ),
        (("meta", "n"), [*JUNK, 0, 2**62, "20", 20.0, 5, 21]),
        (("meta", "chunk"), [*JUNK, 0, 21, 3, 20.0]),
        (("meta", "scores"), [*JUNK, [None], ["loss"], [{}], [{"kind": "loss"}]]),
        (
            ("meta", "scores", 0, "kind"),
            ["os.system", "subprocess.Popen", "adaptive_sampler.ScoreStore", None, 1, ["loss"], {}],
        ),
        (("meta", "scores", 0, "name"), [None, 1, "", "../loss", "forgetting", "other", ["loss"], {"kind": "loss"}]),
        (
            ("meta", "scores", 0, "fold"),
            [None, 1, "last", {}, {"kind": "loss"}, {"kind": "os.system"}, {"kind": "ema", "decay": "x"}],
        ),
        (("meta", "scores", 0, "extra"), [1]),
        *(
            (("meta", of), [*JUNK, {"loss": 0}, {"loss": 0, "forgetting": 0, "other": 0}])
            for of in ("books", "observations", "observed")
        ),
        *((("meta", of, "loss"), JUNK) for of in ("books", "observed")),
        (("meta", "observations", "loss"), [None, True, -1, 1.5, "1", [], {}]),
        (("meta", "made"), [*JUNK, {"loss": {}, "forgetting": {}}]),
        (
            ("meta", "made", "loss"),
            [*JUNK, {"time": "now", "package": "1"}, {"time": 1.0, "package": 1}, {"time": 1.0}],
        ),
        (("meta", "parent"), [None, True, -2, 2, 1.5, "1", [], {}]),
        (
            ("meta", "plans"),
            [1, "0" * 16, [1], ["../../outside"], ["0" * 15], ["0" * 17], ["A" * 16], [None], {"0" * 16: 1}],
        ),
        (("meta", "runs"), [None, 1, "", [], {}]),
        (("meta", "epoch"), [None, True, -1, 1.5, "1", [], {}]),
        (("meta", "delivered"), [None, True, -1, 1.5, "1", [], {}]),
        (("meta", "metadata"), [None, 1, "x", []]),
        (("meta", "keys"), [None, 0, 1, "no", [], {}]),
        (
            ("meta", "columns"),
            [
                *(junk for junk in JUNK if junk != {}),
                {"loss": "text"},
                {"keys": "text"},
                {"../x": "bool"},
                {"x": "object"},
            ],
        ),
        (("meta", "columns", "source"), [*JUNK, "bool", "complex64", "uint8"]),
        (("meta", "columns", "tokens"), [*JUNK, "text", "int8", "float16"]),
        (("objects", "source/codes/c/0"), [None, [0, 0]]),
        (("meta", "layout"), [True, -1, 1.5, "1", [], {}]),
        (("meta", "created"), [None, True, "now", float("nan"), [], {}]),
        (("meta", "package"), [None, 1, [], {}]),
    ],
)
def test_a_manifest_that_no_commit_writes_is_refused(place: Path, path: tuple[Any, ...], values: list[Any]) -> None:
    files = {name: (place / name).read_bytes() for name in ("CURRENT", "manifests/2.json")}
    before = outside(place)
    for value in values:
        for name, data in files.items():
            (place / name).write_bytes(data)
        change_manifest(place, lambda manifest, value=value: changed(manifest, path, value))
        with pytest.raises(AdaptiveSamplerError):
            use(place)
    assert outside(place) == before


@pytest.mark.parametrize(
    "field",
    [
        *("n", "chunk", "scores", "observations", "observed", "parent", "layout", "keys", "columns", "books"),
        *("epoch", "delivered", "runs", "fingerprint", "metadata", "package", "created", "made"),
    ],
)
def test_a_manifest_that_lacks_something_is_refused(place: Path, field: str) -> None:
    change_manifest(place, lambda manifest: manifest["meta"].pop(field))
    with pytest.raises(StoreDamaged, match="what its manifest says makes no store"):
        ScoreStore.open(place)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"null", b"[]", b"{}", b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(place: Path, content: bytes) -> None:
    (place / "manifests/2.json").write_bytes(content)
    reseal(place, content)
    with pytest.raises(StoreDamaged, match="the manifest of version 2 is not one"):
        ScoreStore.open(place)


def test_a_description_imports_nothing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    described = {
        "kind": "custom",
        "type": "trap.Score",
        "name": "loss",
        "fold": {"kind": "custom", "type": "trap.Fold"},
    }
    change_manifest(place, lambda manifest: changed(manifest, ("meta", "scores", 0), described))
    for mode in ("r", "r+"):
        with pytest.raises(AdaptiveSamplerError):
            ScoreStore.open(place, mode=mode)


# -- plans --------------------------------------------------------------------------------------------------------------


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


# -- what leads out of the folder ---------------------------------------------------------------------------------------


def link(place: Path, name: str, target: str = "outside") -> None:
    path = place / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(place.parent / target)


@pytest.mark.parametrize("name", ["v2", "manifests", "v2/loss", "v2/loss/value/c"])
def test_a_folder_that_is_a_link_is_refused(place: Path, name: str) -> None:
    link(place, name)
    before = outside(place)
    with pytest.raises(StoreDamaged, match=r"is a symbolic link; a store keeps its folders within its own"):
        use(place)
    assert outside(place) == before


def test_a_version_that_is_a_link_is_dropped_and_not_what_it_leads_to(place: Path) -> None:
    link(place, "v1")
    before = outside(place)
    use(place)
    assert not (place / "v1").is_symlink()
    assert outside(place) == before


@pytest.mark.parametrize(
    "name", ["v1/loss", "v1/loss/value/c", "v1/loss/value/c/0", "manifests/1.json", "v7", "x.partial"]
)
def test_a_link_within_what_is_dropped_is_deleted_and_not_what_it_leads_to(place: Path, name: str) -> None:
    link(place, name)
    before = outside(place)
    use(place)
    assert outside(place) == before
    assert not (place / "v1").exists()


def test_plans_that_are_a_link_are_refused(place: Path, sound: tuple[Path, str]) -> None:
    link(place, "plans")
    before = outside(place)
    with pytest.raises(StoreDamaged, match="symbolic link"):
        use(place)
    store = ScoreStore.open(place)
    store.session.plans.keep(Draw("loss").plan(store, epoch=0, seed=0))
    with pytest.raises(StoreDamaged, match="symbolic link"):
        store.session.plans.save()
    assert outside(place) == before


def test_a_plan_that_is_a_link_is_refused_and_not_followed(place: Path, sound: tuple[Path, str]) -> None:
    link(place, f"plans/{sound[1]}")
    before = outside(place)
    with ScoreStore.open(place, mode="r") as store, pytest.raises(StoreDamaged, match="symbolic link"):
        store.plan(sound[1])
    use(place)
    assert outside(place) == before


@pytest.mark.parametrize("name", ["notes", "..", "0" * 15, "A" * 16, "v1"])
def test_what_does_not_bear_a_plans_name_is_not_deleted_as_one(place: Path, name: str) -> None:
    if name != "..":
        (place / "plans" / name).mkdir()
        (place / "plans" / name / "file").write_text("mine")
    use(place)
    assert name == ".." or (place / "plans" / name / "file").read_text() == "mine"


def test_an_object_that_is_a_link_is_read_by_its_checksum_and_copied_by_the_next_commit(place: Path) -> None:
    """As in a cache of downloads, whose files are links to blobs."""
    name, blob = "v2/keys/text/c/0", place.parent / "outside/blob"
    shutil.move(place / name, blob)
    link(place, name, "outside/blob")
    before = outside(place)
    with ScoreStore.open(place) as store:
        assert store.rows(["key 3"]).tolist() == [3]
        assert store.commit() == 3
    assert not (place / "v3/keys/text/c/0").is_symlink()
    assert outside(place) == before
    blob.write_bytes(b"another")
    with pytest.raises(StoreDamaged, match=r"are not the .* bytes committed"):
        ScoreStore.open(place, version=2, mode="r")
    assert ScoreStore.open(place, version=3, mode="r").rows(["key 3"]).tolist() == [3]


@pytest.mark.parametrize("name", ["CURRENT", "LOCK", "manifests/2.json", "v2/loss/value/c/0"])
def test_a_pipe_in_place_of_a_file_makes_nobody_wait(place: Path, name: str) -> None:
    (place / name).unlink()
    os.mkfifo(place / name)
    with pytest.raises(StoreError):
        use(place)


@pytest.mark.parametrize("name", ["CURRENT", "LOCK", "manifests/2.json", "v2/loss/value/c/0"])
def test_a_folder_in_place_of_a_file_is_refused(place: Path, name: str) -> None:
    (place / name).unlink()
    (place / name).mkdir()
    with pytest.raises(StoreError):
        use(place)


def test_a_lock_that_is_a_link_is_not_written_to(place: Path) -> None:
    link(place, "LOCK", "outside/file")
    before = outside(place)
    with pytest.raises(StoreError, match=r"LOCK cannot be opened to write: it is a symbolic link.*mode='r'"):
        ScoreStore.open(place)
    ScoreStore.open(place, mode="r").close()  # the remedy
    assert outside(place) == before


def test_the_store_as_a_whole_may_be_a_link(place: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(place)
    use(tmp_path / "link")
    assert ScoreStore.open(place, mode="r")["loss"][0] == 5


def test_a_number_that_is_read_is_the_number_that_was_written(place: Path) -> None:
    pointer = decoded((place / "CURRENT").read_bytes(), "here")
    assert decoded(replace(pointer, highest=9).encoded(), "here") == replace(pointer, highest=9)
    assert LocalStorage(place).pointer() == (place / "CURRENT").read_bytes()
