"""A store is data: whatever its files were made to say, the outcome is the committed data or a clear error."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import AdaptiveSamplerError, StoreDamaged, StoreError
from adaptive_sampler.scoring import EL2N, Forgetting, Loss, Score
from adaptive_sampler.scoring.folds import Mean
from adaptive_sampler.selection import Draw, Prune
from adaptive_sampler.storage.generation import seal
from adaptive_sampler.storage.local import LocalStorage
from adaptive_sampler.storage.pointer import Pointer, decoded
from tests.storage.helpers import filled

N = 50


def everything(store: ScoreStore, plan: str) -> dict[str, Any]:
    """All that can be read of a store."""
    return {
        **{name: store[name].tolist() for name in store.names},
        **{f"count {name}": store.count(name).tolist() for name in store.names},
        "rows": store.rows(["key 3", "key 49"]).tolist(),
        "plan": store.plan(plan).indices().tolist(),
        "weights": store.plan(plan).loss_weights.tolist(),
        "versions": store.versions(),
    }


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    path = tmp_path_factory.mktemp("sound") / "s"
    scores = [EL2N(), Loss(), Forgetting(never_learned="zero")]
    with ScoreStore.create(path, N, scores, keys=[f"key {i}" for i in range(N)]) as store:
        rng = np.random.default_rng(0)
        for epoch in range(2):
            store.update(np.arange(N), epoch=epoch, logits=rng.normal(size=(N, 3)), labels=rng.integers(0, 3, N))
            store.commit()
        plan = Draw("loss", unbiased=True).plan(store, epoch=2, seed=0)
        store.session.plans.keep(plan)
    return path, plan.id, everything(ScoreStore.open(path, mode="r"), plan.id)


def flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return data


MUTATIONS = {
    "flip": flip,
    "truncate": lambda data, rng: data[: rng.integers(len(data))],
    "empty": lambda data, rng: bytearray(),
    "append": lambda data, rng: data + bytes(rng.integers(1, 9)),
    "zero": lambda data, rng: bytearray(len(data)),
    "shuffle": lambda data, rng: bytearray(rng.permutation(data).tobytes()),
    "pickle": lambda data, rng: bytearray(pickle.dumps({"a": [1, 2]})),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("attempt", range(12))
def test_a_mutated_file_gives_the_right_data_or_a_clear_error(
    tmp_path: Path, sound: tuple[Path, str, dict[str, Any]], mutation: str, attempt: int
) -> None:
    path, plan, expected = sound
    rng = np.random.default_rng([attempt, list(MUTATIONS).index(mutation)])
    shutil.copytree(path, tmp_path / "s")
    files = sorted(p for p in (tmp_path / "s").rglob("*") if p.is_file() and p.stat().st_size)
    target = files[rng.integers(len(files))]
    target.write_bytes(MUTATIONS[mutation](bytearray(target.read_bytes()), rng))
    try:
        found = everything(ScoreStore.open(tmp_path / "s", mode="r"), plan)
    except AdaptiveSamplerError:
        return
    assert repr(found) == repr(expected)


@pytest.mark.parametrize("attempt", range(12))
def test_swapped_files_are_noticed(tmp_path: Path, sound: tuple[Path, str, dict[str, Any]], attempt: int) -> None:
    path, plan, expected = sound
    rng = np.random.default_rng(attempt)
    shutil.copytree(path, tmp_path / "s")
    chunks = sorted((tmp_path / "s").glob("v*/*/*/c/0"))
    one, two = (chunks[i] for i in rng.choice(len(chunks), 2, replace=False))
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    try:
        found = everything(ScoreStore.open(tmp_path / "s", mode="r"), plan)
    except StoreDamaged:
        return
    assert repr(found) == repr(expected)


def test_a_missing_chunk_is_named(tmp_path: Path, sound: tuple[Path, str, dict[str, Any]]) -> None:
    shutil.copytree(sound[0], tmp_path / "s")
    (tmp_path / "s/v2/loss/value/c/0").unlink()
    with pytest.raises(StoreDamaged, match=r"v2/loss/value/c/0: cannot be read"):
        ScoreStore.open(tmp_path / "s", mode="r")["loss"]


def hostile(path: Path, change) -> None:
    """Change the head's manifest, with every checksum made good again."""
    storage = LocalStorage(path)
    raw = storage.pointer()
    pointer = decoded(raw or b"", "here")
    name = path / f"manifests/{pointer.head}.json"
    manifest = json.loads(name.read_text())
    change(manifest)
    body = json.dumps(manifest).encode()
    name.write_bytes(body)
    entries = tuple(
        e if e.version != pointer.head else type(e)(**vars(e) | {"manifest": seal([body])}) for e in pointer.entries
    )
    storage.swing(Pointer(pointer.uuid, pointer.head, pointer.highest, entries).encoded(), expected=raw)


def put(path: list[Any], value: Any):
    def change(manifest: dict[str, Any]) -> None:
        inner: Any = manifest
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put(["meta", "n"], 10**18),
        put(["meta", "n"], -1),
        put(["meta", "n"], "many"),
        put(["meta", "chunk"], 0),
        put(["meta", "chunk"], 3),
        put(["meta", "scores", 0], {"kind": "os.system", "name": "el2n"}),
        put(["meta", "scores", 0, "kind"], ["el2n"]),
        put(["meta", "scores", 0, "name"], "../../el2n"),
        put(["meta", "scores", 0, "fold"], {"kind": "el2n"}),
        put(["meta", "scores", 0, "extra"], 1),
        put(["meta", "scores"], None),
        put(["meta", "observations"], {"el2n": "x"}),
        put(["meta", "keys"], False),
        put(["objects", "../../../elsewhere/zarr.json"], [1, 2]),
        put(["objects", "/etc/zarr.json"], [1, 2]),
        put(["objects", "el2n/value/c/0"], None),
    ],
)
def test_a_hostile_manifest_is_refused(tmp_path: Path, sound: tuple[Path, str, dict[str, Any]], change) -> None:
    shutil.copytree(sound[0], tmp_path / "s")
    hostile(tmp_path / "s", change)
    with pytest.raises(AdaptiveSamplerError):
        everything(ScoreStore.open(tmp_path / "s", mode="r"), sound[1])


def test_keys_that_point_outside_their_text_are_refused(
    tmp_path: Path, sound: tuple[Path, str, dict[str, Any]]
) -> None:
    shutil.copytree(sound[0], tmp_path / "s")
    ends = tmp_path / "s/v2/keys/ends/c/0"
    array = np.fromfile(ends, "<i8")
    array[3] = 10**9
    ends.unlink()  # it is shared with version 1
    array.tofile(ends)
    hostile(tmp_path / "s", put(["objects", "keys/ends/c/0"], seal([array])))
    with pytest.raises(StoreDamaged, match="the keys' ends do not fit their text"):
        ScoreStore.open(tmp_path / "s", mode="r")


@pytest.mark.parametrize("plan", ["../../etc", "0" * 16, "", "plan.json"])
def test_an_unknown_plan_is_refused(sound: tuple[Path, str, dict[str, Any]], plan: str) -> None:
    with pytest.raises(KeyError, match="holds no plan"):
        ScoreStore.open(sound[0], mode="r").plan(plan)


def test_a_key_that_is_no_utf8_is_told(tmp_path: Path, sound: tuple[Path, str, dict[str, Any]]) -> None:
    shutil.copytree(sound[0], tmp_path / "s")
    text = tmp_path / "s/v2/keys/text/c/0"
    data = b"\xff" + text.read_bytes()[1:]
    text.unlink()  # it is shared with version 1
    text.write_bytes(data)
    hostile(tmp_path / "s", put(["objects", "keys/text/c/0"], seal([data])))
    with pytest.raises(StoreDamaged, match="the key of row 0 is no UTF-8"):
        ScoreStore.open(tmp_path / "s", mode="r").key(0)


def test_a_changed_plan_is_told_where_the_newest_is_asked_for(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    plan = Prune(0.5, "loss").plan(store, epoch=2, seed=0)
    store.session.plans.keep(plan)
    store.session.plans.save()
    about = tmp_path / "s" / "plans" / plan.id / "plan.json"
    about.write_text(about.read_text().replace('"epoch": 2', '"epoch": 1'))
    with pytest.raises(StoreDamaged, match=f"plans/{plan.id} is not a plan as it was saved"):
        store.session.plans.newest()


def test_plans_that_were_exchanged_are_refused(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    one, two = (Prune(keep, "loss").plan(store, epoch=2, seed=0) for keep in (0.5, 0.25))
    for plan in (one, two):
        store.session.plans.keep(plan)
    store.session.plans.save()
    folder = tmp_path / "s" / "plans"
    (folder / one.id).rename(tmp_path / "aside")
    (folder / two.id).rename(folder / one.id)
    (tmp_path / "aside").rename(folder / two.id)
    with pytest.raises(StoreDamaged, match=f"plans/{one.id} holds plan {two.id}: folders were exchanged"):
        store.plan(one.id)


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path, sound: tuple[Path, str, dict[str, Any]]) -> None:
    shutil.copytree(sound[0], tmp_path / "s")
    current = tmp_path / "s/CURRENT"
    current.write_text(json.dumps(json.loads(current.read_text()) | {"format": 2}))
    with pytest.raises(StoreDamaged, match=r"has format 2; this adaptive-sampler reads up to 1\. Upgrade"):
        ScoreStore.open(tmp_path / "s")


def test_a_folder_that_is_no_store_is_refused_without_a_trace(tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match="holds no store: nothing is there"):
        ScoreStore.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match="holds no store: nothing is there"):
        ScoreStore.open(tmp_path / "nothing")


def test_creating_over_a_store_needs_overwrite(tmp_path: Path) -> None:
    ScoreStore.create(tmp_path / "s", 5, [Loss()]).close()
    with pytest.raises(StoreError, match=r"holds a store already.*overwrite=True"):
        ScoreStore.create(tmp_path / "s", 5, [Loss()])
    with ScoreStore.create(tmp_path / "s", 6, [EL2N()], overwrite=True) as store:
        assert (len(store), store.names, store.version) == (6, ("el2n",), 0)


@pytest.mark.parametrize("overwrite", [False, True])
def test_creating_over_something_else_is_always_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match=r"holds something else than a store \(thesis\.tex\)"):
        ScoreStore.create(tmp_path, 5, [Loss()], overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_creating_on_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        ScoreStore.create(tmp_path / "f", 5, [Loss()])


def test_overwriting_a_store_that_is_open_is_refused(tmp_path: Path) -> None:
    with ScoreStore.create(tmp_path / "s", 5, [Loss()]), pytest.raises(StoreError, match="in this very process"):
        ScoreStore.create(tmp_path / "s", 5, [Loss()], overwrite=True)


def doubled(logits: np.ndarray) -> np.ndarray:
    return logits[:, 0] * 2


def test_a_custom_score_is_passed_again_and_never_imported(tmp_path: Path) -> None:
    mine = Score("mine", doubled, Mean())
    with ScoreStore.create(tmp_path / "s", 5, [mine]) as store:
        store.update([1], logits=[[3.0, 0.0]])
        store.commit()
    with pytest.raises(AdaptiveSamplerError, match=r"'mine' is a custom one .* pass it again, open\(\.\.\., scores="):
        ScoreStore.open(tmp_path / "s")
    assert ScoreStore.open(tmp_path / "s", mode="r")["mine"][1] == 6
    with ScoreStore.open(tmp_path / "s", scores=[mine]) as store:
        store.update([1], logits=[[0.0, 0.0]])
        assert store["mine"][1] == 3


def test_a_score_made_otherwise_is_not_taken_for_the_stores(tmp_path: Path) -> None:
    ScoreStore.create(tmp_path / "s", 5, [EL2N()]).close()
    with pytest.raises(AdaptiveSamplerError, match="scores made in two ways cannot share a column"):
        ScoreStore.open(tmp_path / "s", scores=[EL2N(squared=True)])


def test_a_folder_that_holds_something_else_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreDamaged, match="holds no store: there is no CURRENT"):
        ScoreStore.open(tmp_path)
