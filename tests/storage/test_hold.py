"""A running reader is never disturbed: what it holds stays although it is dropped, and goes once nobody holds it."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import StoreDamaged, StoreError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.storage.generation import manifest_name
from adaptive_sampler.storage.in_memory import MemoryStorage
from adaptive_sampler.storage.local import LocalStorage
from adaptive_sampler.storage.repository import STORE
from adaptive_sampler.storage.versions import Versions
from tests.storage.helpers import filled, running, three

READER = """
import sys, time
from adaptive_sampler import ScoreStore
store = ScoreStore.open(sys.argv[1], version=1, mode="r")
print("open", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStorage | LocalStorage:
    return MemoryStorage() if request.param == "memory" else LocalStorage(tmp_path / "s")


def two_versions(place: MemoryStorage | LocalStorage) -> ScoreStore:
    store = ScoreStore.create(None, 3, [Loss()], storage=place)
    for value in (1, 2):
        store.fold("loss", [0], [value])
        store.commit()
    return store


def test_a_reader_reads_on_after_its_version_was_dropped(place) -> None:
    store = two_versions(place)
    reader = ScoreStore.open(storage=place, version=1, mode="r")
    store.drop_versions(keep=1)
    store.commit()
    assert [v.version for v in store.versions()] == [2, 3]
    assert reader["loss"][0] == 1


def test_a_version_that_was_dropped_is_deleted_once_its_last_reader_has_closed_it(place) -> None:
    store = two_versions(place)
    readers = [ScoreStore.open(storage=place, version=1, mode="r") for _ in range(2)]
    store.drop_versions(keep=1)
    for reader in readers:
        assert "v1" in place.names()
        reader.close()
        store.commit(keep=1)
    assert "v1" not in place.names()
    assert "1.json" not in place.names("manifests")


def test_a_dropped_version_cannot_be_opened_any_more_although_somebody_reads_it(place) -> None:
    store = two_versions(place)
    with ScoreStore.open(storage=place, version=1, mode="r"):
        store.drop_versions(keep=1)
        with pytest.raises(KeyError, match="has version 1 no more: it was dropped"):
            ScoreStore.open(storage=place, version=1, mode="r")


def test_a_reader_that_nobody_keeps_holds_nothing(tmp_path: Path) -> None:
    store = three(tmp_path / "s")
    ScoreStore.open(tmp_path / "s", version=1, mode="r")  # neither closed nor kept
    store.drop_versions(keep=1)
    assert not (tmp_path / "s/v1").exists()


def test_a_reader_in_another_process_holds_its_version_until_it_ends(tmp_path: Path) -> None:
    store = three(tmp_path / "s")
    with running(READER, tmp_path / "s"):
        store.drop_versions(keep=1)
        assert (tmp_path / "s/v1/loss/value/c/0").exists()
    store.commit()
    assert not (tmp_path / "s/v1").exists()


def test_a_forked_child_holds_on_after_its_parent_has_closed(tmp_path: Path) -> None:
    store = three(tmp_path / "s")
    reader = ScoreStore.open(tmp_path / "s", version=1, mode="r")
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(ready, 1)
        os._exit(0 if np.asarray(reader["loss"])[0] == 0 else 1)
    reader.close()
    store.drop_versions(keep=1)
    os.close(go)
    os.close(ready)
    assert os.waitpid(child, 0)[1] == 0


def test_a_child_that_closes_leaves_its_parents_hold(tmp_path: Path) -> None:
    store = three(tmp_path / "s")
    reader = ScoreStore.open(tmp_path / "s", version=1, mode="r")
    child = os.fork()
    if child == 0:
        reader.close()
        os._exit(0)
    os.waitpid(child, 0)
    store.drop_versions(keep=1)
    assert reader["loss"][0] == 0


def test_a_hold_that_is_pickled_is_a_hold_of_its_own(tmp_path: Path) -> None:
    place = LocalStorage(tmp_path)
    place.put("a/b", [b"x"])
    place.flush()
    hold = place.hold("a")
    second = pickle.loads(pickle.dumps(hold))
    hold.release()
    place.delete("a")
    assert place.held("a")
    second.release()
    place.delete("a")
    assert place.names() == []
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(hold))


def test_what_may_only_be_read_can_be_held_too(tmp_path: Path) -> None:
    store = three(tmp_path / "s")
    (tmp_path / "s/manifests/1.json").chmod(0o444)
    reader = ScoreStore.open(tmp_path / "s", version=1, mode="r")
    store.drop_versions(keep=1)
    assert reader["loss"][0] == 0


def test_where_the_file_system_has_no_such_locks_a_drop_deletes(tmp_path: Path, no_flock: None) -> None:
    store = three(tmp_path / "s")
    reader = ScoreStore.open(tmp_path / "s", version=1, mode="r")
    store.drop_versions(keep=1)
    assert not (tmp_path / "s/v1").exists()
    with pytest.raises(StoreDamaged, match=r"If the version was dropped while this store was open, open it again"):
        np.sum(reader["loss"])


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)


def test_a_store_is_not_replaced_while_somebody_reads_it(place) -> None:
    two_versions(place).close()
    with ScoreStore.open(storage=place, version=1, mode="r") as reader:
        with pytest.raises(StoreError, match=r"cannot be replaced while it is open to read.*Close the stores"):
            ScoreStore.create(None, 5, [Loss()], storage=place, overwrite=True)
        assert reader["loss"][0] == 1
    ScoreStore.create(None, 5, [Loss()], storage=place, overwrite=True).close()


def test_a_reader_that_opens_amid_a_commit_and_a_drop_gets_a_version_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path / "s")
    held = LocalStorage.hold

    def interrupted(self: LocalStorage, name: str):
        monkeypatch.setattr(LocalStorage, "hold", held)
        store.fold("loss", [0], [7])
        store.commit(keep=1)  # the head that the reader was about to hold is gone
        return held(self, name)

    monkeypatch.setattr(LocalStorage, "hold", interrupted)
    reader = ScoreStore.open(tmp_path / "s", mode="r")
    assert (reader.version, reader["loss"][0]) == (2, 7)


def test_of_a_version_that_is_held_the_manifest_stays_too(place) -> None:
    store = two_versions(place)
    versions = Versions(place, STORE)
    manifest, hold = versions.hold(1)
    store.drop_versions(keep=1)
    assert place.get(manifest_name(1)).size
    assert all(versions.read(manifest, name) is not None for name in manifest.objects)
    hold.release()
    hold.release()  # a second release does nothing
    store.drop_versions(keep=1)
    assert place.names("v1") == []
