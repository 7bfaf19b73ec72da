"""A disk without a free byte: commits fail and lose nothing, and what every message asks for, dropping versions, works."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import StoreError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.storage.local import RESERVE, LocalStorage

ROWS = 60_000


def fill(disk: Path) -> None:
    """Write until not one byte is free."""
    with open(disk / "ballast", "ab", buffering=0) as ballast:
        while os.statvfs(disk).f_bfree:
            ballast.write(bytes(1 << 12))


def committed(path: Path) -> ScoreStore:
    """A store whose every score was v in version v."""
    store = ScoreStore.create(path, ROWS, [Loss()])
    for version in (1, 2, 3):
        store.fold("loss", np.arange(ROWS), np.full(ROWS, version))
        store.commit()
    return store


def values(path: Path) -> tuple[list[int], list[float]]:
    """The versions, and the different scores of the head."""
    with ScoreStore.open(path, mode="r") as store:
        return [v.version for v in store.versions()], np.unique(store["loss"]).tolist()


def test_versions_are_dropped_where_no_byte_is_free(small_disk: Path) -> None:
    with committed(small_disk / "s") as store:
        fill(small_disk)
        store.fold("loss", np.arange(ROWS), np.full(ROWS, 4))
        with pytest.raises(StoreError, match=r"No space left on device.*make room \(drop_versions\) and commit again"):
            store.commit()
        assert values(small_disk / "s") == ([1, 2, 3], [3])
        store.drop_versions(keep=1)  # the remedy
        assert values(small_disk / "s") == ([3], [3])
        assert store.commit() == 4
        assert values(small_disk / "s") == ([3, 4], [4])


def test_a_process_that_opens_the_store_where_no_byte_is_free_drops_versions_too(small_disk: Path) -> None:
    committed(small_disk / "s").close()
    fill(small_disk)
    with ScoreStore.open(small_disk / "s") as store:
        store.drop_versions(keep=1)
    assert values(small_disk / "s") == ([3], [3])


def test_the_disk_may_become_full_again_and_again(small_disk: Path) -> None:
    with committed(small_disk / "s") as store:
        for value in (4, 5, 6):
            fill(small_disk)
            store.drop_versions(keep=1)  # which takes back some of the room that it made, for the next time
            os.truncate(small_disk / "ballast", (small_disk / "ballast").stat().st_size - (1 << 16))
            store.fold("loss", np.arange(ROWS), np.full(ROWS, value))
            store.commit()
            assert values(small_disk / "s") == ([value - 1, value], [value])


def test_commits_do_not_use_up_the_room_to_drop_versions(small_disk: Path) -> None:
    with committed(small_disk / "s") as store:
        fill(small_disk)
        for _ in range(3):
            with pytest.raises(StoreError, match="No space left"):
                store.commit()  # nothing changed, so that the manifest and the pointer are all that it writes
        store.drop_versions(keep=1)


def test_the_room_grows_with_the_list_of_versions(tmp_path: Path) -> None:
    with ScoreStore.create(tmp_path / "s", 3, [Loss()]) as store:
        sizes = set()
        for _ in range(6):
            store.commit("a long note " * 1000)
            sizes.add((tmp_path / "s" / RESERVE).stat().st_size)
            assert max(sizes) >= len(LocalStorage(tmp_path / "s").pointer() or b"")
    assert len(sizes) > 1


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No new file can be written, as on a full disk; for users who may not mount one."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("adaptive_sampler.storage.local.write_whole", refuse)


def test_a_drop_writes_no_new_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with committed(tmp_path / "s") as store:
        request.getfixturevalue("full")
        store.drop_versions(keep=1)
        assert values(tmp_path / "s") == ([3], [3])
        with pytest.raises(StoreError, match="No space left"):
            store.commit()
        assert values(tmp_path / "s") == ([3], [3])


def test_without_the_reserve_a_drop_fails_and_touches_no_version(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with committed(tmp_path / "s") as store:
        (tmp_path / "s" / RESERVE).unlink()
        request.getfixturevalue("full")
        with pytest.raises(
            StoreError,
            match=r"could not be dropped: No space left on device.*no version was touched: make some room beside it",
        ):
            store.drop_versions(keep=1)
    for version in (1, 2, 3):
        with ScoreStore.open(tmp_path / "s", version=version, mode="r") as store:
            assert (store["loss"] == version).all()


@pytest.mark.parametrize("kind", [os.symlink, os.link])
def test_a_reserve_that_leads_elsewhere_is_not_written_to(tmp_path: Path, request: pytest.FixtureRequest, kind) -> None:
    (tmp_path / "precious").write_bytes(bytes(1 << 15))
    with committed(tmp_path / "s") as store:
        (tmp_path / "s" / RESERVE).unlink()
        kind(tmp_path / "precious", tmp_path / "s" / RESERVE)
        request.getfixturevalue("full")
        with pytest.raises(StoreError, match="could not be dropped"):
            store.drop_versions(keep=1)
    assert (tmp_path / "precious").read_bytes() == bytes(1 << 15)
