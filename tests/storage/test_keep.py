"""A commit that keeps some versions drops the others: when, which, and what is lost if it breaks off: nothing."""

import errno
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError, UnknownName
from adaptive_sampler.storage.local import LocalStorage
from adaptive_sampler.storage.versions import Versions
from tests.storage.helpers import filled, three


def numbers(store: ScoreStore) -> list[int]:
    return [version.version for version in store.versions()]


def killed(*arguments: object, **named: object) -> None:
    """Stands for a step before which the process ends."""
    raise KeyboardInterrupt


def test_a_commit_that_keeps_some_drops_all_but_the_newest_and_the_pinned(tmp_path: Path) -> None:
    with three(tmp_path / "s") as store:
        assert store.commit(keep=2) == 4
        assert numbers(store) == [2, 3, 4]  # 2 is pinned
        assert not (tmp_path / "s/v1").exists()


def test_a_run_that_keeps_two_versions_needs_no_more_room_than_they_do(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        for epoch in range(9):
            store.fold("loss", [0], [epoch])
            store.commit(keep=2)
            assert numbers(store)[-2:] == numbers(store)
        assert sorted(path.name for path in (tmp_path / "s").glob("v*")) == ["v10", "v9"]


def test_a_pinned_commit_stays_whatever_later_commits_keep(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        best = store.commit("best", pin=True, keep=1)
        store.commit(keep=1)
        store.commit(keep=1)
        assert numbers(store) == [best, store.version]


@pytest.mark.parametrize("mode", ["r+", "journal"])
@pytest.mark.parametrize("keep", [0, -1, 1.5, True, "all"])
def test_a_commit_that_would_keep_no_version_is_refused_before_anything_is_written(
    tmp_path: Path, keep: Any, mode: Any
) -> None:
    filled(tmp_path / "s").close()
    with (
        ScoreStore.open(tmp_path / "s", mode=mode) as store,
        pytest.raises(InvalidValue, match=f"keep={keep!r}: how many versions stay, 1 or more"),
    ):
        store.commit(keep=keep)
    assert numbers(ScoreStore.open(tmp_path / "s", mode="r")) == [1]


def test_a_score_that_a_reopened_store_has_not_read_yet_outlives_the_version_it_was_opened_at(tmp_path: Path) -> None:
    filled(tmp_path / "s").close()
    with ScoreStore.open(tmp_path / "s") as store:
        for step in range(3):
            store.fold("loss", [0], [10 + step])  # of el2n and of its count nothing was read, and nothing changes
            store.commit(keep=1)
        assert not (tmp_path / "s/v1").exists()
        assert store["el2n"].tolist() == list(range(100))
        assert store.count("el2n").all()


def test_of_many_ranks_the_first_alone_commits_and_drops(tmp_path: Path) -> None:
    three(tmp_path / "s").close()
    with ScoreStore.open(tmp_path / "s", mode="journal") as of_another_rank:
        of_another_rank.commit(keep=1)
    assert numbers(ScoreStore.open(tmp_path / "s", mode="r")) == [1, 2, 3]


def test_a_writer_that_dies_between_its_commit_and_the_drop_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = three(tmp_path / "s")
    store.fold("loss", [0], [40])
    monkeypatch.setattr(Versions, "drop", killed)
    with pytest.raises(KeyboardInterrupt):
        store.commit(keep=1)
    monkeypatch.undo()
    store.close()
    with ScoreStore.open(tmp_path / "s") as again:
        assert (numbers(again), again["loss"][0]) == ([1, 2, 3, 4], 40)
        again.commit(keep=1)
        assert numbers(again) == [2, 5]


def test_a_writer_that_dies_amid_the_drop_leaves_what_the_next_commit_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = three(tmp_path / "s")
    store.commit()
    monkeypatch.setattr(LocalStorage, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        store.drop_versions(keep=1)
    monkeypatch.undo()
    store.close()
    with ScoreStore.open(tmp_path / "s") as again:
        assert (numbers(again), (tmp_path / "s/v1").exists()) == ([2, 4], True)
        again.commit()
        assert not (tmp_path / "s/v1").exists()


def test_what_a_place_refuses_to_delete_is_left_for_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(storage: LocalStorage, name: str) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    with three(tmp_path / "s") as store:
        monkeypatch.setattr(LocalStorage, "delete", busy)
        assert store.commit(keep=1) == 4
        assert (numbers(store), (tmp_path / "s/v1").exists()) == ([2, 4], True)
        monkeypatch.undo()
        assert store.commit() == 5
        assert not (tmp_path / "s/v1").exists()


def test_a_disk_that_refuses_the_drop_is_told_and_the_commit_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(storage: LocalStorage, value: bytes, *, expected: bytes | None) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with three(tmp_path / "s") as store:
        store.commit()
        monkeypatch.setattr(LocalStorage, "swing", broken)
        said = r"old versions could not be dropped: Input/output error\. Version 4 is whole, and no version was touched"
        with pytest.raises(StoreError, match=said):
            store.drop_versions(keep=1)
        assert numbers(store) == [1, 2, 3, 4]
        monkeypatch.undo()
        store.drop_versions(keep=1)  # the remedy that it names
        assert numbers(store) == [2, 4]


def test_a_dropped_version_is_refused_by_what_dropped_it_and_those_that_there_are(tmp_path: Path) -> None:
    with three(tmp_path / "s") as store:
        store.commit(keep=1)
    said = r"has version 3 no more: it was dropped, by keep= of a commit or by drop_versions\. It has 2, 4\. A checkpoint that"
    with pytest.raises(UnknownName, match=said):
        ScoreStore.open(tmp_path / "s", version=3)
