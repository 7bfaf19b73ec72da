"""Where a store can be: a folder, this process's memory, or a storage of one's own; and two writers of one place."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, NoStore, PointerMoved, StoreDamaged, StoreError, StoreLocked
from adaptive_sampler.scoring import EL2N, Forgetting, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.storage.generation import GenerationWriter
from adaptive_sampler.storage.in_memory import MemoryStorage
from adaptive_sampler.storage.local import LocalStorage


def in_memory(name: str) -> str:
    return f"memory://{name}"


def test_a_store_in_memory_is_opened_by_its_name_as_it_was_committed() -> None:
    with ScoreStore.create(in_memory("named"), 4, [Loss()], keys="abcd") as store:
        store.fold("loss", [1], [2.0])
        store.commit()
        store.fold("loss", [2], [3.0])
    with ScoreStore.open(in_memory("named")) as again:
        assert again["loss"][1] == 2
        assert np.isnan(again["loss"][2])
        assert again.rows(["d"]).tolist() == [3]
        assert again.path == "memory://named"


def test_a_store_in_memory_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ScoreStore.create(in_memory("silent"), 4, [Loss()]) as store:
        store.commit()
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_memory_is_resumed_by_its_states() -> None:
    with ScoreStore.create(in_memory("resumed"), 20, [Loss()]) as store:
        store.fold("loss", np.arange(20), np.arange(20.0))
        sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
        walk = iter(sampler)
        first = [next(walk) for _ in range(4)]
        state = sampler.state_dict()
        store.commit()
        rest = list(walk)
    with ScoreStore.open(in_memory("resumed")) as again:
        resumed = AdaptiveSampler(again, Prune(0.5, "loss"))
        resumed.load_state_dict(state)
        assert list(resumed) == rest
        assert sorted(first + rest) == list(range(10, 20))


def test_a_storage_of_ones_own_is_passed_to_create_and_open() -> None:
    storage = MemoryStorage()
    with ScoreStore.create(None, 3, [Loss()], storage=storage) as store:
        store.fold("loss", [0], [1.0])
        store.commit()
        store.drop_versions(keep=1)
        assert store.path == storage.where
    with ScoreStore.open(storage=storage, mode="r") as again:
        assert again["loss"][0] == 1


def test_a_path_and_a_storage_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="a path says where the store is, or a storage does"):
        ScoreStore.create(tmp_path / "s", 3, [Loss()], storage=MemoryStorage())
    with pytest.raises(InvalidValue, match="path=None, storage=None"):
        ScoreStore.open()


def test_what_is_no_storage_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"is no Storage: adaptive_sampler\.testing.check_storage says"):
        ScoreStore.create(None, 3, [Loss()], storage=object())  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["hdfs://bucket/scores", "ftp://bucket/scores", "memory://", "file://host/scores"])
@pytest.mark.parametrize("call", [lambda path: ScoreStore.create(path, 3, [Loss()]), ScoreStore.open])
def test_a_scheme_that_is_not_kept_is_refused_and_not_taken_for_a_folder(
    path: str, call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InvalidValue, match=f"path='{path}': scores and indexes are kept in a folder, in an object store"
    ):
        call(path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_be_named_by_its_url(tmp_path: Path) -> None:
    with ScoreStore.create((tmp_path / "my scores").as_uri(), 3, [Loss()]) as store:
        store.fold("loss", [0], [1.0])
        store.commit()
        assert store.path == tmp_path / "my scores"
    assert ScoreStore.open(tmp_path / "my scores", mode="r")["loss"][0] == 1


def test_a_relative_path_stays_where_it_was_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with ScoreStore.create("s", 3, [Loss()]) as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.fold("loss", [0], [1.0])
        sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
        assert len(list(sampler)) == len(sampler)  # its plan is saved
        store.commit()
    assert ScoreStore.open(tmp_path / "s", mode="r")["loss"][0] == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_name_in_memory_that_nobody_made_holds_no_store() -> None:
    with pytest.raises(NoStore, match="memory://never holds no store: nothing is there"):
        ScoreStore.open(in_memory("never"))


def test_a_store_in_memory_has_one_writer() -> None:
    with ScoreStore.create(in_memory("one"), 3, [Loss()]):
        with pytest.raises(StoreLocked, match="open for writing in this very process"):
            ScoreStore.open(in_memory("one"))
        ScoreStore.open(in_memory("one"), mode="r").close()
    ScoreStore.open(in_memory("one")).close()


def test_a_store_in_memory_cannot_be_sent_to_another_process() -> None:
    with (
        ScoreStore.create(in_memory("here"), 3, [Loss()]) as store,
        pytest.raises(TypeError, match=r"memory://here lives in the memory of process .* cannot be sent to another"),
    ):
        pickle.dumps(store)


def test_a_store_in_memory_is_made_anew_only_where_that_is_asked_for() -> None:
    ScoreStore.create(in_memory("anew"), 3, [Loss()]).close()
    with pytest.raises(StoreError, match="memory://anew holds a store already"):
        ScoreStore.create(in_memory("anew"), 5, [EL2N()])
    with ScoreStore.create(in_memory("anew"), 5, [EL2N()], overwrite=True) as store:
        assert (len(store), store.names) == (5, ("el2n",))


def test_damage_in_memory_is_noticed() -> None:
    storage = MemoryStorage()
    with ScoreStore.create(None, 3, [Loss()], storage=storage) as store:
        store.fold("loss", [0], [1.0])
        store.commit()
    storage.put("v1/loss/value/c/0", [b"other bytes!"])
    with pytest.raises(
        StoreDamaged, match=rf"^{storage.where}/v1/loss/value/c/0: 12 bytes that are not the 12 bytes committed"
    ):
        ScoreStore.open(storage=storage)["loss"]


# -- two writers, where a lock was stolen -------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStorage | LocalStorage:
    return MemoryStorage() if request.param == "memory" else LocalStorage(tmp_path / "s")


def two_writers(place: MemoryStorage | LocalStorage) -> tuple[ScoreStore, ScoreStore]:
    """A writer, and one that has taken its lease from it, as with steal=True from another host."""
    first = ScoreStore.create(None, 3, [Loss(), Forgetting()], storage=place)
    if isinstance(place, LocalStorage):
        first.session.files.lease.release()  # type: ignore[union-attr]
    return first, ScoreStore.open(storage=place, steal=True)


def test_of_two_writers_the_second_to_commit_is_told_and_undoes_nothing(place) -> None:
    first, second = two_writers(place)
    second.fold("loss", [0], [1.0])
    second.commit("of the second")
    first.fold("loss", [1], [2.0])
    with pytest.raises(PointerMoved, match=r"another writer has committed meanwhile.*Nothing was changed"):
        first.commit("of the first")
    with ScoreStore.open(storage=place, mode="r") as again:
        assert [v.note for v in again.versions()] == ["of the second"]
        assert again["loss"][0] == 1
    assert first["loss"][1] == 2  # and what it holds is not lost
    second.close()


def test_a_writer_that_was_overtaken_drops_no_version_either(place) -> None:
    first, second = two_writers(place)
    second.fold("loss", [0], [1.0])
    kept = second.commit()
    with pytest.raises(PointerMoved):
        first.drop_versions(keep=1)
    with ScoreStore.open(storage=place, version=kept, mode="r") as again:
        assert again["loss"][0] == 1
    second.close()


def test_a_writer_that_was_overtaken_amid_a_commit_leaves_the_other_one_whole(
    place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its objects are written while the other opens, commits twice and sweeps; then it goes on as if nothing had happened."""
    first = ScoreStore.create(None, 3, [Loss(), Forgetting()], storage=place)
    first.fold("loss", [1], [2.0])
    finish, others = GenerationWriter.finish, []

    def interrupted(self: GenerationWriter, meta):
        monkeypatch.setattr(GenerationWriter, "finish", finish)
        if isinstance(place, LocalStorage):
            first.session.files.lease.release()  # type: ignore[union-attr]
        others.append(ScoreStore.open(storage=place, steal=True))
        for row in range(2):
            others[0].fold("loss", [row], [1.0])
            others[0].commit(f"of the second, row {row}")
        return finish(self, meta)

    monkeypatch.setattr(GenerationWriter, "finish", interrupted)
    with pytest.raises(PointerMoved):
        first.commit("of the first")
    with pytest.raises(PointerMoved):  # nor later
        first.commit("of the first")
    for version in others[0].versions():
        with ScoreStore.open(storage=place, version=version.version, mode="r") as again:
            assert again["loss"][0] == 1
    assert [v.note for v in others[0].versions()] == ["of the second, row 0", "of the second, row 1"]
    others[0].fold("loss", [2], [3.0])
    others[0].commit()
    others[0].close()


def test_a_lease_that_was_given_back_is_not_taken_over(place) -> None:
    ScoreStore.create(None, 3, [Loss()], storage=place).close()
    with ScoreStore.open(storage=place) as store:
        assert store.commit() == 1


def count_up(path: Path, times: int) -> None:
    storage = LocalStorage(path)
    for _ in range(times):
        while True:
            seen = storage.pointer()
            try:
                storage.swing(str(int(seen or 0) + 1).encode(), expected=seen)
                break
            except PointerMoved:
                continue


def test_processes_that_swing_one_pointer_lose_no_swing(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=count_up, args=(tmp_path / "s", 25)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert LocalStorage(tmp_path / "s").pointer() == b"75"
