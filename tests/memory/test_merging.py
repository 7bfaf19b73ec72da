"""Stores of other machines over the same samples become one: held against one store that observed everything."""

import itertools
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError
from adaptive_sampler.scoring import (
    EL2N,
    EMA,
    CannotMerge,
    Confidence,
    Deviation,
    Forgetting,
    Last,
    Loss,
    Max,
    Mean,
    Score,
    Variability,
)
from tests import references
from tests.stores import Lowest

N = 4
KEYS = [f"sample {i}" for i in range(N)]
VALUE = st.floats(-1e3, 1e3, width=32)
ONE_STORE = st.lists(st.lists(st.tuples(st.integers(0, N - 1), VALUE), min_size=1, max_size=6), max_size=4)
SEVERAL = st.lists(ONE_STORE, min_size=1, max_size=3)


def observed(batches, scores, *, order=None, epoch=0):
    """A store into which batches of (sample, value) were folded, whose rows are the samples in `order`; with keys if given."""
    order = range(N) if order is None else order
    store = ScoreStore.create(None, N, scores, keys=[KEYS[i] for i in order])
    for number, batch in enumerate(batches):
        rows = store.rows([KEYS[i] for i, _ in batch])
        for score in scores:
            store.fold(score.name, rows, [value for _, value in batch], epoch=epoch + number)
    return store


def loss(value, *, row=0, epoch=0, fold=None, keys=None, **created):
    """A store of three rows in which one row was observed once."""
    store = ScoreStore.create(None, 3, [Loss(fold=fold or Mean())], keys=keys, **created)
    store.fold("loss", [row], [value], epoch=epoch)
    return store


def wrong(sequence, *, run="", row=0, runs="sum", never_learned="zero"):
    """A store in which `row` was presented in `run`, right (0) or wrong (1) each time."""
    store = ScoreStore.create(None, 2, [Forgetting(runs=runs, never_learned=never_learned)])
    store.begin_run(run)
    store.fold("forgetting", [row] * len(sequence), sequence)
    return store


# -- as if observed in one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fold", "twin"),
    [(Mean(), references.mean), (Max(), max), (Deviation(), references.deviation)],
    ids=["mean", "max", "deviation"],
)
@given(several=SEVERAL, data=st.data())
def test_a_merged_score_is_that_of_one_store_which_observed_everything(fold, twin, several, data):
    stores = [observed(batches, [Loss(fold=fold)], order=data.draw(st.permutations(range(N)))) for batches in several]
    merged = ScoreStore.merge(None, stores)
    values = {key: [] for key in KEYS}
    for sample, value in itertools.chain(*itertools.chain(*several)):
        values[KEYS[sample]].append(value)
    rows = merged.rows(KEYS)
    expected = [twin(values[key]) if values[key] else np.nan for key in KEYS]
    np.testing.assert_allclose(merged["loss"][rows], expected, rtol=1e-5, atol=2e-3)
    assert merged.count("loss")[rows].tolist() == [len(values[key]) for key in KEYS]


@given(several=SEVERAL)
def test_a_row_was_last_seen_where_it_was_seen_last(several):
    stores = [observed(batches, [Loss(fold=Max())]) for batches in several]
    expected = np.max([store.last_seen("loss") for store in stores], axis=0)
    assert ScoreStore.merge(None, stores).last_seen("loss").tolist() == expected.tolist()


@given(several=SEVERAL, decided=st.data())
def test_the_last_value_is_that_of_the_later_epoch(several, decided):
    """The stores' epochs do not overlap, so one store that observed all of it in the order of epochs is the oracle."""
    stores, whole, epoch = [], ScoreStore.create(None, N, [Loss(fold=Last())], keys=KEYS), 0
    for batches in several:
        stores.append(observed(batches, [Loss(fold=Last())], epoch=epoch))
        for number, batch in enumerate(batches):
            whole.fold("loss", [row for row, _ in batch], [value for _, value in batch], epoch=epoch + number)
        epoch += len(batches)
    merged = ScoreStore.merge(None, decided.draw(st.permutations(stores)))
    assert merged["loss"].tobytes() == whole["loss"].tobytes()


@pytest.mark.parametrize("runs", ["sum", "mean"])
@pytest.mark.parametrize("never_learned", ["inf", "presentations", "zero"])
@given(several=st.lists(st.lists(st.integers(0, 1), max_size=5), min_size=1, max_size=3))
def test_forgetting_in_several_stores_is_that_of_as_many_runs_in_one(runs, never_learned, several):
    whole = ScoreStore.create(None, 2, [Forgetting(runs=runs, never_learned=never_learned)])
    for number, sequence in enumerate(several):
        whole.begin_run(f"run {number}")
        whole.fold("forgetting", [0] * len(sequence), sequence)
    stores = [wrong(sequence, runs=runs, never_learned=never_learned) for sequence in several]
    merged = ScoreStore.merge(None, stores)
    assert np.array_equal(merged["forgetting"], whole["forgetting"], equal_nan=True)


@given(batches=ONE_STORE)
def test_one_store_merged_is_that_store(batches):
    scores = [Loss(), Loss(name="average", fold=EMA()), EL2N(), Forgetting(), Variability()]
    store = observed(batches, scores)
    merged = ScoreStore.merge(None, [store])
    assert merged.session.digest() == store.session.digest()
    assert merged.about["runs"] == store.about["runs"]


@pytest.mark.parametrize("fold", [Last(), EMA(), Forgetting().fold], ids=["last", "ema", "transitions"])
@given(batches=ONE_STORE)
def test_samples_that_only_one_store_observed_are_as_they_are_there(fold, batches):
    """Whatever the fold: this is data that was dealt out to machines."""
    halves = [[[pair for pair in batch if pair[0] % 2 == half] for batch in batches] for half in range(2)]
    stores = [observed(half, [Score("loss", lambda loss: loss, fold)]) for half in halves]
    whole = observed(batches, [Score("loss", lambda loss: loss, fold)])
    assert ScoreStore.merge(None, stores)["loss"].tobytes() == whole["loss"].tobytes()


def test_a_merged_store_goes_on_as_one_that_observed_everything():
    first, second = loss(1.0), loss(3.0)
    with ScoreStore.merge(None, [first, second]) as merged:
        merged.fold("loss", [0], [8.0])
        assert (merged["loss"][0], merged.count("loss")[0]) == (4, 3)


def test_scores_of_stores_that_observed_them_apart_are_merged_each_with_its_own_counts():
    stores = [ScoreStore.create(None, 2, [EL2N(), Confidence()]) for _ in range(2)]
    stores[0].update([0], logits=np.eye(2)[:1], labels=[0])  # both at once
    stores[1].fold("el2n", [0, 0], [1, 1])  # one alone
    merged = ScoreStore.merge(None, stores)
    assert (merged.count("el2n")[0], merged.count("confidence")[0]) == (3, 1)
    assert (merged.observed("el2n"), merged.observed("confidence")) == (1, 1)


def test_merging_changes_no_store_that_is_merged():
    stores = [wrong([0, 1], run="a"), wrong([0, 0], run="b")]
    before = [store.session.digest() for store in stores]
    ScoreStore.merge(None, stores)
    assert [store.session.digest() for store in stores] == before


def test_a_merge_is_one_commit_and_comes_back_from_disk(tmp_path):
    with ScoreStore.merge(tmp_path / "s", [loss(1.0, epoch=3), loss(3.0, row=1)]) as merged:
        assert [note for _, _, note, _ in merged.versions()] == ["merged from 2 stores"]
    with ScoreStore.open(tmp_path / "s") as again:
        assert again["loss"][:2].tolist() == [1, 3]
        assert again.last_seen("loss").tolist() == [3, 0, -1]
        assert again.observed("loss") == 2


def test_the_runs_of_all_stores_are_over_and_a_new_one_has_begun():
    merged = ScoreStore.merge(None, [wrong([0, 1], run="a"), wrong([0], run="b")])
    assert merged.about["runs"] == ["", "a", "b", "merged"]
    merged.fold("forgetting", [0], [1])  # the first presentation of a run forgets nothing
    assert merged["forgetting"][0] == 1


def test_one_run_that_trained_on_other_rows_on_each_machine_goes_on():
    merged = ScoreStore.merge(None, [wrong([0], run="a"), wrong([0], run="a", row=1)])
    assert merged.about["runs"] == ["", "a"]
    merged.fold("forgetting", [0, 1], [1, 1])
    assert merged["forgetting"].tolist() == [1, 1]


# -- what cannot be right is refused ------------------------------------------------------------------------------------


def refused(words, stores):
    with pytest.raises(InvalidValue, match=words):
        ScoreStore.merge(None, stores)


def test_a_moving_average_of_two_stores_is_refused_by_score_and_row():
    refused(r"loss: row 2 was observed in store 1 .* a moving average", [loss(1, row=2, fold=EMA()) for _ in range(2)])
    ScoreStore.merge(None, [loss(1, row=2) for _ in range(2)])  # the remedy: fold=Mean()


def test_last_values_of_the_same_epoch_are_refused_with_both_values():
    refused(
        r"row 0 .* both last in epoch 5, with the values 1\.0 and 2\.0",
        [loss(v, epoch=5, fold=Last()) for v in (1, 2)],
    )


def test_equal_last_values_of_the_same_epoch_need_no_order():
    assert ScoreStore.merge(None, [loss(1, fold=Last()) for _ in range(2)])["loss"][0] == 1


def test_last_values_whose_epochs_began_anew_are_refused():
    stores = [loss(v, epoch=e, fold=Last()) for v, e in ((1, 0), (2, 5))]
    stores[1].begin_run("second")
    refused(r"epochs began anew in the run 'second', so they do not tell what came last", stores)


def test_one_run_that_presented_a_row_in_two_stores_is_refused():
    refused(r"row 0 .* both in the current run", [wrong([0, 1], run="a") for _ in range(2)])
    ScoreStore.merge(None, [wrong([0, 1], run="a"), wrong([0, 1], run="b")])  # the remedy


def test_a_run_that_several_stores_had_before_is_refused():
    stores = [wrong([0], run="a"), wrong([0], run="a")]
    stores[1].begin_run("b")
    refused(r"several stores have the run 'a', beside others", stores)


def test_a_custom_fold_without_merge_is_refused_by_its_name():
    class MergeableLowest(Lowest):
        relies_on = ""

        def merge(self, state, other):
            if (other["value"] < 0).any():
                raise CannotMerge(int(np.flatnonzero(other["value"] < 0)[0]), "negative.")
            np.minimum(state["value"], other["value"], out=state["value"])

    def two(fold, *values):
        stores = [ScoreStore.create(None, 2, [Score("lowest", lambda value: value, fold)]) for _ in values]
        for store, value in zip(stores, values, strict=True):
            store.update([1], value=np.array([value]))
        return stores

    refused(r"lowest: fold .*Lowest.* has no `merge` and `relies_on`", two(Lowest(), 2.0, 1.0))
    assert ScoreStore.merge(None, two(MergeableLowest(), 2.0, 1.0))["lowest"][1] == 1
    refused(r"lowest: row 1 .* negative", two(MergeableLowest(), 2.0, -1.0))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: ScoreStore.create(None, 3, [EL2N()]), "loss: .* no such score"),
        (lambda: loss(1, fold=Max()), "loss: .*'mean'.*'max'.* made in the same way"),
        (lambda: ScoreStore.create(None, 4, [Loss(fold=Mean())]), "has 3 rows, .* 4"),
        (lambda: loss(1, keys="abc"), "has keys, the other has none"),
        (lambda: loss(1, fingerprint="x"), "made for the dataset None, .* for 'x'"),
    ],
    ids=["scores", "folds", "rows", "keys", "fingerprint"],
)
def test_stores_of_other_samples_or_scores_are_refused(other, words):
    refused(words, [loss(1), other()])


def test_other_keys_are_refused_by_the_first_that_is_unknown():
    refused("key 'x' of .* is not in", [loss(1, keys="abc"), loss(1, keys="axb")])


def test_no_store_and_what_is_no_store_are_refused():
    refused("nothing to merge", [])
    refused(r"stores has 'scores\.zarr', which is no ScoreStore", ["scores.zarr"])


def test_a_store_that_comes_twice_is_refused_a_copy_too(tmp_path):
    store = ScoreStore.create(tmp_path / "s", 3, [Loss(fold=Mean())])
    shutil.copytree(tmp_path / "s", tmp_path / "copy", ignore=shutil.ignore_patterns("LOCK"))
    refused("the same store or copies of one", [store, store])
    refused("the same store or copies of one", [store, ScoreStore.open(tmp_path / "copy", mode="r")])


def test_a_place_that_holds_a_store_is_kept_unless_it_is_to_be_replaced(tmp_path):
    ScoreStore.create(tmp_path / "s", 3, [EL2N()]).close()
    with pytest.raises(StoreError, match="holds a store already"):
        ScoreStore.merge(tmp_path / "s", [loss(1)])
    assert ScoreStore.merge(tmp_path / "s", [loss(1)], overwrite=True).names == ("loss",)


def test_a_refused_merge_writes_nothing(tmp_path):
    with pytest.raises(InvalidValue):
        ScoreStore.merge(tmp_path / "s", [loss(1, fold=EMA()), loss(2, fold=EMA())])
    assert not (tmp_path / "s").exists()
