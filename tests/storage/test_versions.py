"""Versions: what they tell, opening an old one, going on from it, dropping them, pinning them."""

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError, UnknownName
from adaptive_sampler.selection import Prune
from adaptive_sampler.storage.local import LocalStorage
from tests.storage.helpers import filled, three


def test_a_version_tells_its_number_time_note_pin_and_how_many_rows_were_observed(tmp_path: Path) -> None:
    before = time.time()
    versions = three(tmp_path / "s").versions()
    assert [(v.version, v.note, v.pinned) for v in versions] == [
        (1, "first", False),
        (2, "note 2", True),
        (3, "note 3", False),
    ]
    assert all(before <= v.time <= time.time() for v in versions)
    assert [v.observed for v in versions] == [100, 100, 100]
    number, when, note, pinned = versions[1]
    assert (number, when, note, pinned) == (2, versions[1].time, "note 2", True)


@pytest.mark.parametrize(("version", "loss"), [(1, 0), (2, 20), (3, 30), (None, 30)])
def test_opening_a_version_gives_exactly_its_scores(tmp_path: Path, version: int | None, loss: float) -> None:
    three(tmp_path / "s").close()
    assert ScoreStore.open(tmp_path / "s", version=version, mode="r")["loss"][0] == loss


def test_going_on_from_an_old_version_makes_it_the_head_and_destroys_nothing(tmp_path: Path) -> None:
    three(tmp_path / "s").close()
    with ScoreStore.open(tmp_path / "s", version=1) as store:
        store.fold("loss", [0], [99])
        assert store.commit("from 1") == 4
    assert ScoreStore.open(tmp_path / "s", mode="r")["loss"][0] == 99
    assert ScoreStore.open(tmp_path / "s", mode="r", version=3)["loss"][0] == 30
    assert [v.version for v in ScoreStore.open(tmp_path / "s", mode="r").versions()] == [1, 2, 3, 4]


def test_opening_an_old_version_alone_changes_nothing(tmp_path: Path) -> None:
    three(tmp_path / "s").close()
    ScoreStore.open(tmp_path / "s", version=1).close()
    assert ScoreStore.open(tmp_path / "s", mode="r").version == 3


def test_an_unknown_version_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    three(tmp_path / "s").close()
    with pytest.raises(UnknownName, match=r"has no version 7: it has 0, 1, 2, 3"):
        ScoreStore.open(tmp_path / "s", version=7)


def test_dropping_keeps_the_newest_and_the_pinned(tmp_path: Path) -> None:
    with three(tmp_path / "s") as store:
        store.drop_versions(keep=1)
        assert [v.version for v in store.versions()] == [2, 3]
        assert not (tmp_path / "s/v1").exists()
    assert ScoreStore.open(tmp_path / "s", version=2, mode="r")["loss"][0] == 20


def test_dropping_spares_the_version_that_is_open(tmp_path: Path) -> None:
    three(tmp_path / "s").close()
    with ScoreStore.open(tmp_path / "s", version=1) as store:
        store.drop_versions(keep=1)
        assert store["el2n"][5] == 5
        assert [v.version for v in store.versions()] == [1, 2, 3]


@pytest.mark.parametrize("keep", [0, -1])
def test_keeping_no_version_is_refused(tmp_path: Path, keep: int) -> None:
    with pytest.raises(
        InvalidValue, match=f"keep={keep}: how many versions stay, 1 or more; the newest is never dropped"
    ):
        three(tmp_path / "s").drop_versions(keep=keep)


def test_a_dropped_versions_number_is_not_given_again(tmp_path: Path) -> None:
    with three(tmp_path / "s") as store:
        store.drop_versions(keep=1)
        assert store.commit() == 4


@pytest.mark.parametrize("about", [b"{}", b'{"made_from": {"a": 1, "b": 2}}', b'{"made_from": [[1], 2]}', b"\xff"])
def test_dropping_takes_away_half_a_plan_and_leaves_a_damaged_one(tmp_path: Path, about: bytes) -> None:
    with three(tmp_path / "s") as store:
        half, damaged = (tmp_path / "s/plans" / (digit * 16) for digit in "ab")
        for folder in (half, damaged):
            folder.mkdir(parents=True)
            (folder / "kept.npy").write_bytes(b"some")
        (damaged / "plan.json").write_bytes(about)
        (tmp_path / "s/plans/notes.txt").write_text("not ours")
        store.drop_versions(keep=1)
    assert (half.exists(), damaged.exists()) == (False, True)


def test_plans_are_dropped_with_the_version_they_were_made_from(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        old = Prune(0.5, "loss").plan(store, epoch=0, seed=0)
        store.session.plans.keep(old)
        store.commit()
        new = Prune(0.5, "loss").plan(store, epoch=1, seed=0)
        store.session.plans.keep(new)
        store.drop_versions(keep=1)
        assert store.plan(new.id).id == new.id
        with pytest.raises(UnknownName, match=f"holds no plan '{old.id}'.*made from a version that has been dropped"):
            store.plan(old.id)


def test_of_many_ranks_the_first_alone_drops(tmp_path: Path) -> None:
    three(tmp_path / "s").close()
    with ScoreStore.open(tmp_path / "s", mode="journal") as of_another_rank:
        of_another_rank.drop_versions(keep=1)
    assert [v.version for v in ScoreStore.open(tmp_path / "s", mode="r").versions()] == [1, 2, 3]


def test_to_keep_a_plan_the_others_are_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    names = LocalStorage.names
    monkeypatch.setattr(LocalStorage, "names", lambda self, prefix="": listed.append(prefix) or names(self, prefix))
    with filled(tmp_path / "s") as store:
        plan = Prune(0.5, "loss").plan(store, epoch=0, seed=0)
        store.session.plans.keep(plan)
    assert f"plans/{plan.id}" in listed
    assert "plans" not in listed


def test_the_clock_and_the_run_come_back(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        store.begin_run("second")
        store.epoch = 7
        store.commit()
    with ScoreStore.open(tmp_path / "s") as store:
        assert store.epoch == 7
        store.begin_run("second")  # a resumed script calls it again
        assert store.epoch == 7
        with pytest.raises(StoreError, match="run '' has ended"):
            store.begin_run("")


def test_two_stores_of_one_note_are_told_apart(tmp_path: Path) -> None:
    assert filled(tmp_path / "a").about["uuid"] != filled(tmp_path / "b").about["uuid"]


def epochs(store: ScoreStore, sampler: AdaptiveSampler, times: int) -> list[tuple[int, dict[str, Any]]]:
    """So many epochs, each with a commit and a state at its end."""
    saved = []
    for _ in range(times):
        rows = list(sampler)
        store.fold("loss", rows, np.asarray(rows) % 7 + sampler.epoch)
        saved.append((store.commit(), sampler.state_dict()))
    return saved


def test_a_plan_made_once_stays_for_every_version_whose_commit_found_it_in_force(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1, replan="once")
    saved = epochs(store, sampler, 7)
    store.drop_versions(keep=3)
    rows = sampler.plan.rows.tolist()
    store.close()
    with ScoreStore.open(tmp_path / "s", version=saved[-3][0]) as store:
        again = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1, replan="once")
        again.load_state_dict(saved[-3][1])
        assert sorted(again) == rows


def test_the_plan_that_an_epoch_walks_stays_whatever_is_dropped(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
        next(walk := iter(sampler))
        for _ in range(2):
            store.fold("loss", [0], [1])
            store.commit()
        store.drop_versions(keep=1)
        assert store.plan(sampler.plan.id).id == sampler.plan.id
        assert len([*walk]) == 49


def test_a_state_within_an_epoch_resumes_after_the_version_that_its_plan_was_made_from_is_dropped(
    tmp_path: Path,
) -> None:
    store = filled(tmp_path / "s")
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
    next(walk := iter(sampler))
    store.fold("loss", [0], [1])
    version, state = store.commit(), sampler.state_dict()
    rest = [*walk]
    epochs(store, sampler, 2)
    store.drop_versions(keep=3)
    store.close()
    with ScoreStore.open(tmp_path / "s", version=version) as store:
        again = AdaptiveSampler(store, Prune(0.5, "loss"))
        again.load_state_dict(state)
        assert [*again] == rest


def test_blocks_plans_stay_that_a_state_at_the_commit_names(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        sampler = AdaptiveSampler(store, Prune(0.5, "loss"), replan=2)
        walk = iter(sampler.batches(10))
        for row in range(3):
            next(walk)
            store.fold("loss", [row], [1])
            version = store.commit()
        state = sampler.state_dict()
        store.commit()
        store.drop_versions(keep=2)
        assert version in [v.version for v in store.versions()]
        assert state["plans"]
        assert [store.plan(plan).id for plan in state["plans"]] == state["plans"]


def test_a_plan_goes_when_no_version_that_stays_needs_it(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
        epochs(store, sampler, 6)
        store.drop_versions(keep=2)
        assert len(LocalStorage(tmp_path / "s").names("plans")) <= 3


def test_a_samplers_plan_goes_with_the_sampler(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
        walk = iter(sampler)
        next(walk)
        plan = sampler.plan.id
        del sampler, walk
        gc.collect()
        store.fold("loss", [0], [1])
        store.commit()
        store.drop_versions(keep=1)
        with pytest.raises(UnknownName, match=plan):
            store.plan(plan)


def test_a_version_whose_manifest_is_damaged_keeps_no_drop_from_being_made(tmp_path: Path) -> None:
    with three(tmp_path / "s") as store:
        (tmp_path / "s/manifests/2.json").write_text("{}")
        store.drop_versions(keep=1)
        assert [v.version for v in store.versions()] == [2, 3]
