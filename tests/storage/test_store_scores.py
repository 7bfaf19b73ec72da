"""A store takes observations of any framework and gives scores back."""

import copy
import pickle

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError, UnknownName
from adaptive_sampler.scoring import (
    EL2N,
    Confidence,
    Deviation,
    Entropy,
    Error,
    Forgetting,
    Loss,
    Margin,
    Mean,
    Variability,
)
from tests.libraries import LIBRARIES
from tests.snapshots import snapshot

BUILT_IN = [EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Variability(), Entropy(), Error()]
LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], np.float32)
LABELS = np.array([0, 0, 1])


@pytest.fixture
def store():
    with ScoreStore.create(None, 6, BUILT_IN) as made:
        yield made


def test_a_new_store_has_no_score_of_any_row(store):
    assert [np.isnan(store[name]).all() and store[name].shape == (6,) for name in store.names] == [True] * 8
    assert [store.observed(name) for name in store.names] == [0] * 8


def test_scores_are_listed_by_their_names_in_the_order_of_making(store):
    names = ("el2n", "forgetting", "loss", "margin", "confidence", "variability", "entropy", "error")
    assert store.names == names


def test_one_update_feeds_every_score_whose_inputs_it_brings(store):
    store.update([4, 0, 2], logits=LOGITS, labels=LABELS)
    assert [np.flatnonzero(~np.isnan(store[name])).tolist() for name in store.names] == [[0, 2, 4]] * 8


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("el2n", [0.168578, 1.033874, 1.347144]),
        ("forgetting", [0, np.inf, np.inf]),
        ("loss", [0.126928, 1.313262, 3.048587]),
        ("margin", [2, -1, -3]),
        ("confidence", [0.880797, 0.268941, 0.047426]),
        ("variability", [0, 0, 0]),
        ("entropy", [0.365334, 0.582203, 0.190865]),
        ("error", [0, 1, 1]),
    ],
)
def test_each_built_in_score_measures_what_its_name_says(store, name, values):
    store.update([0, 1, 2], logits=LOGITS, labels=LABELS)
    np.testing.assert_allclose(store[name][:3], values, atol=2e-6)


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_rows_and_observations_may_be_any_librarys_arrays(store, library):
    make = LIBRARIES[library]
    store.update(make(np.array([4, 0, 2])), logits=make(LOGITS), labels=make(LABELS))
    np.testing.assert_allclose(store["margin"][[4, 0, 2]], [2, -1, -3])


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_a_measured_loss_may_be_any_librarys_array(store, library):
    store.update([1, 2], loss=LIBRARIES[library](np.array([0.5, 2.0])))
    store.fold("el2n", [1, 2], LIBRARIES[library](np.array([0.25, 1.0])))
    assert (store["loss"][1:3].tolist(), store["el2n"][1:3].tolist()) == ([0.5, 2.0], [0.25, 1.0])


@pytest.mark.parametrize(
    "rows", [np.array([5, 1], np.uint8), [5, 1], (5, 1), np.array([5, 1], np.uint64), range(5, 0, -4)]
)
def test_rows_may_be_any_integers(store, rows):
    store.update(rows, loss=[1.0, 2.0])
    assert store["loss"][[5, 1]].tolist() == [1.0, 2.0]


def test_an_empty_batch_changes_no_score(store):
    store.update([], loss=[])
    assert store.observed("loss") == 0


def test_a_loss_in_the_observation_is_taken_before_the_cross_entropy(store):
    store.update([0], loss=[7.0], logits=LOGITS[:1], labels=LABELS[:1])
    assert store["loss"][0] == 7.0


def test_fold_takes_an_already_measured_value_into_one_score(store):
    store.fold("entropy", [3], [0.25])
    assert [store.observed(name) for name in store.names] == [0, 0, 0, 0, 0, 0, 1, 0]


def test_rows_that_come_twice_fold_in_order():
    with ScoreStore.create(None, 2, [Loss(), Loss(fold=Mean(), name="mean")]) as store:
        store.update([1, 1, 1], loss=[5.0, 9.0, 1.0])
        assert (store["loss"][1], store["mean"][1], store.count("loss")[1]) == (1.0, 5.0, 3)


@pytest.mark.parametrize(("given", "seen"), [(None, 4), (9, 9), (0, 0), (np.int64(3), 3)])
def test_the_epoch_of_an_update_is_the_stores_clock_unless_given(store, given, seen):
    store.epoch = 4
    store.update([2], loss=[1.0], epoch=given)
    assert store.last_seen("loss").tolist() == [-1, -1, seen, -1, -1, -1]


@pytest.mark.parametrize("part", [slice(1, 4), slice(None), slice(4, None), slice(-2, None), slice(3, 3), slice(4, 99)])
def test_a_slice_of_values_is_that_slice_of_the_score(store, part):
    store.update(range(6), loss=np.arange(6.0))
    assert store.values("loss", part).tolist() == np.arange(6.0)[part].tolist()


@pytest.mark.parametrize("name", ["loss", "forgetting", "variability"])
def test_scores_are_float32_and_read_only(store, name):
    scores = store[name]
    assert scores.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        scores[0] = 1


@pytest.mark.parametrize(("column", "dtype"), [("count", np.uint32), ("last_seen", np.int32)])
def test_counts_and_epochs_are_read_only_integers(store, column, dtype):
    array = getattr(store, column)("loss")
    assert array.dtype == dtype
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_a_score_added_later_starts_unobserved_beside_the_old(store):
    store.update([0], loss=[1.0])
    store.add(Loss(name="second_loss"))
    store.update([1], loss=[2.0])
    assert (store.observed("loss"), store.observed("second_loss"), store.names[-1]) == (2, 1, "second_loss")


def test_growing_keeps_the_scores_and_adds_rows_never_observed(store):
    store.update([5], loss=[1.0])
    store.grow(8)
    np.testing.assert_array_equal(store["loss"], [np.nan] * 5 + [1.0] + [np.nan] * 2)


def test_a_new_run_starts_the_clock_afresh_and_the_current_one_does_not(store):
    store.begin_run("first")
    store.epoch = 7
    store.begin_run("first")
    assert store.epoch == 7
    store.begin_run("second")
    assert store.epoch == 0


def test_means_and_counts_go_on_over_runs():
    with ScoreStore.create(None, 1, [EL2N()]) as store:
        for run, value in enumerate([0.0, 1.0, 0.5]):
            store.begin_run(str(run))
            store.fold("el2n", [0], [value])
        assert (store["el2n"][0], store.count("el2n")[0]) == (0.5, 3)


def test_a_run_that_has_ended_cannot_go_on(store):
    store.begin_run("first")
    store.begin_run("second")
    with pytest.raises(StoreError, match="run 'first' has ended, 'second' is the current one: name a new run"):
        store.begin_run("first")


def test_a_copied_model_shares_its_store(store):
    assert copy.deepcopy({"hook": store})["hook"] is store


def test_a_pickled_store_is_the_last_commit_to_read(tmp_path):
    with ScoreStore.create(tmp_path / "s", 3, [Loss()]) as store:
        store.update([0], loss=[1.0])
        store.commit()
        store.update([1], loss=[2.0])
        twin = pickle.loads(pickle.dumps(store))
        np.testing.assert_array_equal(twin["loss"], [1.0, np.nan, np.nan])
        with pytest.raises(StoreError, match=r"open to read.*mode='r\+' to write"):
            twin.update([0], loss=[1.0])


def test_a_pickled_store_is_small_however_many_rows_it_has(tmp_path):
    with ScoreStore.create(tmp_path / "s", 100_000, [Loss()]) as store:
        assert len(pickle.dumps(store)) < 1000


def test_scores_survive_a_commit_to_the_last_bit(tmp_path):
    with ScoreStore.create(tmp_path / "s", 6, BUILT_IN) as store:
        store.update([4, 0, 2], logits=LOGITS, labels=LABELS)
        store.commit()
        before = snapshot(store)
    with ScoreStore.open(tmp_path / "s") as again:
        assert snapshot(again) | {"made from": None} == before | {"made from": None}


def test_an_unknown_score_is_an_error_that_lists_the_known(store):
    with pytest.raises(UnknownName, match="no score 'eln2'; it has el2n, forgetting, loss"):
        store["eln2"]


def test_two_scores_of_one_name_are_refused_with_the_remedy():
    with pytest.raises(InvalidValue, match="two scores are named 'loss': give one of them another name="):
        ScoreStore.create(None, 3, [Loss(), Loss(fold=Mean())])


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_losses_of_a_short_float_of_ml_dtypes_are_numbers(dtype):
    short = getattr(pytest.importorskip("ml_dtypes"), dtype)
    with ScoreStore.create(None, 2, [Loss()]) as store:
        store.update([0, 1], loss=np.array([0.5, 2.0], short))
        assert store["loss"].tolist() == [0.5, 2.0]


def test_a_loss_too_small_for_float32_is_0_whatever_numpy_is_told_to_raise(store):
    with np.errstate(all="raise"):
        store.update([0], loss=np.array([1e-60]))
    assert store["loss"][0] == 0


def test_a_spread_too_small_for_float32_is_read_whatever_numpy_is_told_to_raise():
    with ScoreStore.create(None, 4, [Loss(fold=Deviation())]) as store:
        for value in (1e-20, 2e-20, 3.3e-20):
            store.update([0], loss=np.array([value], np.float32))
        with np.errstate(all="raise"):
            assert 0 < store["loss"][0] < 1e-19
