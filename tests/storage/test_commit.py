"""A commit is atomic and durable; only what changed is written; what a killed commit left is never read."""

import os
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import StoreError
from adaptive_sampler.memory.book import CHUNK
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import Draw
from benchmarks.helpers.writer import ROWS, kill_while_committing
from tests.storage.helpers import filled


def test_what_was_committed_is_what_a_later_open_finds(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        expected = {name: store[name].copy() for name in store.names}
    with ScoreStore.open(tmp_path / "s") as again:
        for name, values in expected.items():
            np.testing.assert_array_equal(again[name], values)
            np.testing.assert_array_equal(again.count(name), np.ones(100))
            np.testing.assert_array_equal(again.last_seen(name), np.ones(100))


def test_updates_after_the_last_commit_are_not_kept(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        store.fold("loss", [0], [77.0])
    assert ScoreStore.open(tmp_path / "s", mode="r")["loss"][0] == 0


def test_a_new_store_opens_before_its_first_commit(tmp_path: Path) -> None:
    ScoreStore.create(tmp_path / "s", 10, [EL2N()]).close()
    store = ScoreStore.open(tmp_path / "s")
    assert (store.version, store.versions()) == (0, [])
    assert np.isnan(store["el2n"]).all()


def test_commits_count_up_from_one(tmp_path: Path) -> None:
    store = ScoreStore.create(tmp_path / "s", 10, [EL2N()])
    assert [store.commit(), store.commit(), store.version] == [1, 2, 2]


def test_an_unchanged_chunk_is_the_same_file_as_in_the_last_version(tmp_path: Path) -> None:
    store = ScoreStore.create(tmp_path / "s", CHUNK + 10, [Loss()])
    store.fold("loss", [0, CHUNK], [1, 1])
    store.commit()
    store.fold("loss", [CHUNK + 1], [2])
    store.commit()
    value = [[tmp_path / f"s/v{v}/loss/value/c/{chunk}" for chunk in (0, 1)] for v in (1, 2)]
    assert value[0][0].samefile(value[1][0])
    assert not value[0][1].samefile(value[1][1])


def test_a_chunk_never_observed_has_no_file(tmp_path: Path) -> None:
    store = ScoreStore.create(tmp_path / "s", CHUNK + 10, [Loss()])
    store.fold("loss", [CHUNK], [1])
    store.commit()
    assert os.listdir(tmp_path / "s/v1/loss/value/c") == ["1"]
    assert np.isnan(ScoreStore.open(tmp_path / "s", mode="r")["loss"][:CHUNK]).all()


def test_rows_in_every_chunk_come_back(tmp_path: Path) -> None:
    store = ScoreStore.create(tmp_path / "s", 2 * CHUNK + 3, [Loss()])
    rows = np.array([0, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 2])
    store.fold("loss", rows, rows % 97)
    store.commit()
    again = ScoreStore.open(tmp_path / "s", mode="r")
    np.testing.assert_array_equal(again["loss"][rows], rows % 97)
    assert again.observed("loss") == 6


@pytest.mark.parametrize(
    "part", [slice(0, 5), slice(CHUNK - 2, CHUNK + 2), slice(CHUNK, None), slice(7, 7), slice(-3, None)]
)
def test_a_slice_is_read_as_from_the_whole(tmp_path: Path, part: slice) -> None:
    store = ScoreStore.create(tmp_path / "s", CHUNK + 10, [Loss()])
    store.fold("loss", np.arange(CHUNK + 10), np.arange(CHUNK + 10))
    store.commit()
    again = ScoreStore.open(tmp_path / "s", mode="r")
    np.testing.assert_array_equal(again.values("loss", part), np.arange(CHUNK + 10)[part])


@pytest.mark.parametrize("attempt", range(24))
def test_a_writer_killed_at_any_moment_leaves_exactly_one_committed_version(tmp_path: Path, attempt: int) -> None:
    ScoreStore.create(tmp_path / "s", ROWS, [EL2N(), Loss()]).close()
    delay = np.random.default_rng(attempt).uniform(0, 0.25)
    acknowledged, store = kill_while_committing(tmp_path / "s", delay)
    with store:
        # One version more than acknowledged: it may be killed between the commit and the message.
        assert acknowledged <= store.version <= acknowledged + 1
        expected = store.version or np.nan
        for name in store.names:
            np.testing.assert_array_equal(store[name], np.full(ROWS, mean_of_versions(name, expected), np.float32))
            assert (store.last_seen(name) == (store.version or -1)).all()


def mean_of_versions(name: str, version: float) -> float:
    return (version + 1) / 2 if name == "el2n" else version


def test_the_next_commit_cleans_what_a_killed_one_left(tmp_path: Path) -> None:
    filled(tmp_path / "s").close()
    for leftover in ("v2/loss/value/c/0", "v2/odd/zarr.json", "manifests/2.json", "CURRENT.partial"):
        (tmp_path / "s" / leftover).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / leftover).write_bytes(b"half of someth")
    with ScoreStore.open(tmp_path / "s") as store:
        assert store.version == 1
        store.fold("loss", [0], [5])
        assert store.commit() == 2
    found = {p.relative_to(tmp_path / "s").as_posix() for p in (tmp_path / "s").rglob("*")}
    assert "v2/odd" not in found
    assert not any(name.endswith(".partial") for name in found)
    assert ScoreStore.open(tmp_path / "s", mode="r")["loss"][0] == 5


def test_a_full_disk_fails_the_commit_and_loses_nothing(small_disk: Path) -> None:
    store = ScoreStore.create(small_disk / "s", 60_000, [Loss()])
    store.fold("loss", np.arange(60_000), np.ones(60_000))
    store.commit()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_700_000))
    store.fold("loss", np.arange(60_000), np.full(60_000, 2.0))
    with pytest.raises(StoreError, match=r"commit of version 2 .* failed: No space left on device.*Version 1 is whole"):
        store.commit()
    np.testing.assert_array_equal(ScoreStore.open(small_disk / "s", mode="r")["loss"], np.ones(60_000))
    assert not (small_disk / "s/v2").exists()
    ballast.unlink()
    assert store.commit() == 2
    np.testing.assert_array_equal(ScoreStore.open(small_disk / "s", mode="r")["loss"], np.full(60_000, 2.0))


def test_a_full_disk_keeps_no_half_of_a_plan(small_disk: Path) -> None:
    store = ScoreStore.create(small_disk / "s", 60_000, [Loss()])
    store.fold("loss", np.arange(60_000), np.arange(60_000))
    sampler = AdaptiveSampler(store, Draw("loss", floor=0.1, unbiased=True))
    next(iter(sampler))
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk)
    ballast.write_bytes(bytes(free.f_bavail * free.f_bsize - 100_000))  # room for plan.json, none for 240 KB of weights
    with pytest.raises(
        StoreError, match=r"plan [0-9a-f]{16} could not be kept in .*: No space left on device.*make room"
    ):
        sampler.state_dict()
    assert not list((small_disk / "s/plans").iterdir())
    ballast.unlink()
    sampler.state_dict()
    read = ScoreStore.open(small_disk / "s", mode="r").plan(sampler.plan.id)
    np.testing.assert_array_equal(read.rows, sampler.plan.rows)
