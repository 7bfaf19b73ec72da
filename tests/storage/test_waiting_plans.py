"""When plans are written: not while only this process knows of them, and before anything that names one can leave it."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import UnknownName
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.storage import plans

N = 40


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    made = ScoreStore.create(tmp_path / "s", N, [Loss()])
    made.fold("loss", np.arange(N), np.arange(N))
    return made


@pytest.fixture
def sampler(store: ScoreStore) -> AdaptiveSampler:
    return AdaptiveSampler(store, Prune(0.5, "loss"))


def saved(store: ScoreStore) -> list[str]:
    """The ids of the plans on disk."""
    folder = Path(store.path) / "plans"
    return sorted(os.listdir(folder)) if folder.exists() else []


def epochs(sampler: AdaptiveSampler, number: int) -> list[str]:
    """The sorted ids of the plans of the next `number` epochs, which are walked to their ends."""
    ids = []
    for _ in range(number):
        list(sampler)
        ids.append(sampler.plan.id)
        sampler.store.fold("loss", [sampler.epoch], [0.0])
    return sorted(ids)


def test_a_plan_is_not_written_while_its_epoch_is_walked(store: ScoreStore, sampler: AdaptiveSampler) -> None:
    epochs(sampler, 2)
    assert saved(store) == []


def test_this_process_finds_a_plan_that_is_not_written_yet(store: ScoreStore, sampler: AdaptiveSampler) -> None:
    ids = epochs(sampler, 3)
    assert [store.plan(one).id for one in ids] == ids


def test_a_commit_writes_the_plans_of_all_epochs_since_the_last_one(
    store: ScoreStore, sampler: AdaptiveSampler
) -> None:
    ids = epochs(sampler, 3)
    store.commit()
    assert saved(store) == ids
    assert [ScoreStore.open(store.path, mode="r").plan(one).id for one in ids] == ids


def test_a_state_writes_the_plan_that_it_names(store: ScoreStore, sampler: AdaptiveSampler) -> None:
    next(iter(sampler))
    assert sampler.state_dict()["plans"] == saved(store)


def test_a_plan_is_written_at_once_where_a_state_was_taken_before_it(
    store: ScoreStore, sampler: AdaptiveSampler
) -> None:
    list(sampler)
    state = sampler.state_dict(delivered=20)  # the beginning of the next epoch, whose plan it will name
    next(iter(sampler))
    assert state["plans"] == [sampler.plan.id]
    assert sampler.plan.id in saved(store)


def test_a_pickled_sampler_writes_the_plan_that_it_names(store: ScoreStore, sampler: AdaptiveSampler) -> None:
    sent = pickle.dumps(sampler)
    assert saved(store) == [sampler.plan.id]
    assert pickle.loads(sent).plan.id == sampler.plan.id


def test_the_rows_of_an_epoch_write_the_plan_that_workers_read(store: ScoreStore, sampler: AdaptiveSampler) -> None:
    rows = sampler.epoch_rows()
    assert saved(store) == [sampler.plan.id]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows))[:], rows[:])


def test_a_pickled_store_has_the_plans_of_its_samplers(store: ScoreStore, sampler: AdaptiveSampler) -> None:
    ids = epochs(sampler, 1)
    assert pickle.loads(pickle.dumps(store)).plan(ids[0]).id == ids[0]


def test_closing_a_store_writes_the_plans_that_wait(store: ScoreStore, sampler: AdaptiveSampler) -> None:
    ids = epochs(sampler, 2)
    store.close()
    assert saved(store) == ids


def test_plans_that_wait_are_written_before_they_take_much_memory(
    store: ScoreStore, sampler: AdaptiveSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "MOST", 5000)
    ids = epochs(sampler, 2)
    assert saved(store) == []
    assert saved(store) != epochs(sampler, 1)
    assert set(ids) < set(saved(store))


def test_one_plan_that_several_epochs_keep_waits_once(store: ScoreStore) -> None:
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), replan="once")
    assert len(set(epochs(sampler, 3))) == 1
    store.commit()
    assert saved(store) == [sampler.plan.id]


def test_a_store_that_is_open_to_read_writes_no_plan(store: ScoreStore) -> None:
    store.commit()
    read = ScoreStore.open(store.path, mode="r")
    sampler = AdaptiveSampler(read, Prune(0.5, "loss"))
    next(iter(sampler))
    sampler.state_dict()
    assert saved(store) == []
    with pytest.raises(UnknownName):
        read.plan(sampler.plan.id)


def test_a_forked_child_writes_no_plan_of_its_parent(store: ScoreStore, sampler: AdaptiveSampler) -> None:
    ids = epochs(sampler, 1)
    child = os.fork()
    if not child:
        try:
            sampler.store.session.plans.save()
        finally:
            os._exit(len(saved(store)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.plan(ids[0]).id == ids[0]


def test_dropping_versions_drops_plans_that_were_written_for_them(store: ScoreStore, sampler: AdaptiveSampler) -> None:
    old = epochs(sampler, 1)
    store.commit()
    new = epochs(sampler, 1)
    store.commit(keep=1)
    assert new[0] in saved(store)
    assert old[0] not in saved(store)
