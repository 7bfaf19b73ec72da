"""Stores that keep their runs apart are merged into one that keeps the runs of all."""

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.ranking import runs
from adaptive_sampler.scoring import EL2N, Loss, Mean


def of_run(name: str, rows: list[int], values: list[float], keys: list[str] | None = None) -> ScoreStore:
    store = ScoreStore.create(None, 3, [Loss(fold=Mean())], runs="kept", keys=keys)
    store.begin_run(name)
    store.fold("loss", rows, values)
    return store


def test_stores_of_different_runs_are_merged_into_one_that_has_them_all(tmp_path):
    one, other = of_run("a", [0, 1], [1, 2], ["x", "y", "z"]), of_run("b", [0, 1], [3, 4], ["z", "y", "x"])
    with ScoreStore.merge(tmp_path / "s", [one, other]) as store:
        assert store["loss"].tolist() == [1, 3, 3]
        assert store.about["runs"][-1] == "merged"  # what comes next is a run of its own
    with ScoreStore.open(tmp_path / "s") as store:
        found = runs(store, "loss")
        np.testing.assert_array_equal(found["a"], np.float32([1, 2, np.nan]))
        np.testing.assert_array_equal(found["b"], np.float32([np.nan, 4, 3]))
        store.begin_run("c")
        store.fold("loss", [0], [9.0])
        assert [*runs(store, "loss")] == ["a", "b", "c"]


def test_what_two_machines_observed_in_one_run_is_that_run():
    one, other = of_run("a", [0, 1], [1, 2]), of_run("a", [1, 2], [4, 5])
    with ScoreStore.merge(None, [one, other]) as store:
        assert {name: scores.tolist() for name, scores in runs(store, "loss").items()} == {"a": [1, 3, 5]}


def test_runs_without_a_name_are_not_merged():
    stores = [ScoreStore.create(None, 3, [Loss()], runs="kept") for _ in range(2)]
    for store in stores:
        store.fold("loss", [0], [1.0])
    with pytest.raises(InvalidValue, match=r"a run without a name.*store.begin_run\(name\)"):
        ScoreStore.merge(None, stores)


def test_a_store_that_keeps_runs_apart_is_not_merged_with_one_that_does_not():
    plain = ScoreStore.create(None, 3, [Loss(fold=Mean())])
    with pytest.raises(InvalidValue, match="does not, and what it observed cannot be told apart later"):
        ScoreStore.merge(None, [of_run("a", [0], [1.0]), plain])


def test_a_score_that_a_store_added_after_a_run_is_in_the_merged_run_what_the_other_store_observed():
    early, late = of_run("a", [0], [1.0]), of_run("a", [1], [2.0])
    early.add(EL2N())
    early.fold("el2n", [0], [3.0])
    late.begin_run("b")
    late.add(EL2N())
    late.fold("el2n", [1], [4.0])
    with ScoreStore.merge(None, [late, early]) as store:
        found = {name: {run: scores.tolist()[:2] for run, scores in runs(store, name).items()} for name in store.names}
    nan = pytest.approx(np.nan, nan_ok=True)
    assert found == {"loss": {"a": [1, 2]}, "el2n": {"a": [3, nan], "b": [nan, 4]}}
