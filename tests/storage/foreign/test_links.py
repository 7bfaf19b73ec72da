"""What leads out of a store's folder, or is no file in place of one, is never followed: nothing outside it is touched."""

import os
import shutil
from pathlib import Path

import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import StoreDamaged, StoreError
from adaptive_sampler.selection import Draw
from tests.storage.foreign.changes import outside, use


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
