"""Pruning keeps what its twin keeps: the best by score, after rows that must come first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.selection import Prune, RandomPrune
from tests import references
from tests.references import tie_counts
from tests.stores import scored

EXAMPLE = [0.3, 0.1, 0.5, 0.2, 0.4]
SCORE = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -2.0]), st.floats(-100, 100, width=16))  # many ties
SCORES = st.lists(st.one_of(SCORE, st.just(np.nan)), min_size=1, max_size=40).map(np.array)
KEEP = st.floats(0.01, 1).map(lambda share: round(share, 2))
ORDERS = pytest.mark.parametrize("order", ["highest", "lowest"])


def kept(policy, store, *, epoch=0, seed=0):
    return set(policy.plan(store, epoch=epoch, seed=seed).rows.tolist())


@ORDERS
@given(scores=SCORES, keep=KEEP)
def test_ties_by_row_keep_exactly_what_a_stable_argsort_keeps(order, scores, keep):
    expected = references.prune(scores, keep, order) if np.isfinite(scores).any() else set(range(len(scores)))
    store = scored(scores)
    if expected:
        assert kept(Prune(keep, "loss", order=order, ties="row"), store) == expected


@ORDERS
@given(scores=SCORES, keep=KEEP, seed=st.integers(0, 3))
def test_random_ties_choose_only_among_equal_scores(order, scores, keep, seed):
    scores = np.nan_to_num(scores)
    expected = references.prune(scores, keep, order)
    if expected:
        ours = kept(Prune(keep, "loss", order=order), scored(scores), seed=seed)
        assert tie_counts(scores + 0.0, ours) == tie_counts(scores + 0.0, expected)


@pytest.mark.parametrize(("order", "rows"), [("highest", {2, 4}), ("lowest", {1, 3})])
def test_the_worked_example_of_data_diet(order, rows):
    assert kept(Prune(2, "loss", order=order), scored(EXAMPLE)) == rows


@pytest.mark.parametrize(
    ("keep", "n", "number"),
    [(0.5, 5, 3), (0.3, 5, 2), (0.1, 5, 1), (0.145, 100, 15), (0.29, 100, 29), (1.0, 5, 5), (4, 5, 4), (5, 5, 5)],
)
def test_a_fraction_is_cut_at_floor_of_fn_plus_a_half_and_a_count_is_a_count(keep, n, number):
    assert len(kept(Prune(keep, "loss"), scored(np.arange(n)))) == number
    assert len(kept(RandomPrune(keep), scored(np.arange(n)))) == number


def test_rows_never_observed_fill_keep_first():
    assert kept(Prune(3, "loss"), scored([5.0, np.nan, 4.0, np.nan, 6.0])) == {1, 3, 4}


def test_only_rows_never_observed_make_the_plan_larger_than_keep():
    assert kept(Prune(2, "loss"), scored([5.0, np.nan, np.nan, np.nan, 6.0])) == {1, 2, 3}


@pytest.mark.parametrize("policy", [Prune(2, "loss"), Prune(0.1, "loss", per_class=[0, 0, 1, 1, 1])])
def test_a_score_that_nobody_observed_keeps_everything(policy):
    assert kept(policy, scored([np.nan] * 5)) == set(range(5))


def test_infinite_scores_are_the_highest():
    from adaptive_sampler import ScoreStore
    from adaptive_sampler.scoring import Forgetting

    with ScoreStore.create(None, 3, [Forgetting()]) as store:
        store.fold("forgetting", [0, 1, 2, 2], [0, 1, 0, 1])  # never wrong, never right, forgotten once
        assert kept(Prune(2, "forgetting"), store) == {1, 2}


@pytest.mark.parametrize(
    ("max_age", "rows"),
    # rows 0 … 4 were last seen in epochs 9, 2, 5, 7, 9; their scores rise
    [(None, {3, 4}), (1, {1, 2}), (3, {1, 2}), (5, {1, 4}), (9, {3, 4})],
)
def test_rows_older_than_max_age_come_first_and_the_oldest_of_them_first(max_age, rows):
    store = scored([1.0, 2.0, 3.0, 4.0, 5.0], epochs=[9, 2, 5, 7, 9])
    assert kept(Prune(2, "loss", max_age=max_age), store, epoch=9) == rows


@ORDERS
@given(data=st.data(), keep=KEEP, max_age=st.integers(1, 20))
def test_max_age_keeps_what_its_twin_keeps(order, data, keep, max_age):
    scores = data.draw(SCORES)
    epochs = np.array(data.draw(st.permutations(range(len(scores)))))  # all ages differ: the twin breaks no ties
    age = np.where(np.isfinite(scores) & (40 - epochs > max_age), 40 - epochs, np.nan)
    store = scored(scores, epochs=epochs)
    expected = references.prune(scores, keep, order, age)
    if expected and np.isfinite(scores).any():
        assert kept(Prune(keep, "loss", order=order, ties="row", max_age=max_age), store, epoch=40) == expected


@pytest.mark.parametrize(("epoch", "rows"), [(0, {0, 1}), (2, {0, 1}), (3, {3, 4})])
def test_a_score_of_an_earlier_run_ages_from_the_beginning_of_this_one(epoch, rows):
    store = scored([5.0, 4.0, 3.0, 2.0, 1.0], epochs=[max(epoch - 1, 0)] * 3 + [12, 12])
    assert kept(Prune(2, "loss", max_age=3), store, epoch=epoch) == rows


def test_rows_never_observed_come_before_the_oldest():
    store = scored([np.nan, 1.0, 2.0], epochs=[0, 0, 8])
    assert kept(Prune(2, "loss", max_age=1), store, epoch=9) == {0, 1}


@pytest.mark.parametrize(
    "labels", [[0, 0, 1, 1, 1, 0], ["cat", "cat", "dog", "dog", "dog", "cat"], [True, True, False, False, False, True]]
)
def test_per_class_keeps_the_share_within_each_class(labels):
    store = scored([9.0, 8.0, 3.0, 2.0, 1.0, 7.0])
    assert kept(Prune(0.34, "loss", per_class=np.array(labels)), store) == {0, 2}


@ORDERS
@given(data=st.data(), keep=KEEP)
def test_per_class_is_pruning_each_class_by_itself(order, data, keep):
    scores = np.nan_to_num(data.draw(SCORES))
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores))), np.uint8)
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    expected = {int(rows[i]) for rows in classes for i in references.prune(scores[rows], keep, order, least=1)}
    policy = Prune(keep, "loss", order=order, ties="row", per_class=labels)
    assert kept(policy, scored(scores)) == expected


def test_per_class_needs_a_label_a_row():
    with pytest.raises(InvalidValue, match=r"per_class has shape \(3,\): one label for each of the 5 rows"):
        Prune(0.5, "loss", per_class=[0, 1, 0]).plan(scored(EXAMPLE), epoch=0, seed=0)


def test_random_ties_change_with_the_seed_and_the_epoch_and_not_otherwise():
    store, policy = scored(np.zeros(60)), Prune(0.5, "loss")
    assert kept(policy, store, seed=1) == kept(policy, store, seed=1)
    assert kept(policy, store, seed=1) != kept(policy, store, seed=2)
    assert kept(policy, store, epoch=1) != kept(policy, store, epoch=2)


def test_random_ties_favour_no_end_of_the_data():
    store, policy = scored(np.zeros(100)), Prune(0.5, "loss")
    halves = [sum(row < 50 for row in kept(policy, store, seed=seed)) for seed in range(40)]
    assert 23 < np.mean(halves) < 27  # 25 ± 0.4 (one standard error)


@pytest.mark.parametrize("policy", [Prune, lambda keep, by: RandomPrune(keep)])
@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (0, "keep=0: must be a fraction, 0 < keep <= 1 as a float, or a count"),
        (0.0, "keep=0.0: must be a fraction"),
        (1, "keep=1 could mean one row or all of them: write keep=1.0 for all"),
        (np.int64(1), "keep=1 could mean one row or all of them"),
        (1.5, "keep=1.5: must be a fraction"),
        (-0.5, "keep=-0.5: must be"),
        (-3, "keep=-3: must be"),
        (True, "keep=True: must be"),
        (float("nan"), "keep=nan: must be"),
        ("0.5", "keep='0.5': must be"),
        (None, "keep=None: must be"),
    ],
)
def test_a_keep_that_is_none_is_refused_with_the_rule(policy, keep, words):
    with pytest.raises(InvalidValue, match=words):
        policy(keep, "loss")


def test_a_count_above_the_rows_is_refused_with_the_most_there_is():
    with pytest.raises(InvalidValue, match=r"keep=6 asks for 6 of 5 rows. Ask for at most 5"):
        Prune(6, "loss").plan(scored(EXAMPLE), epoch=0, seed=0)


def test_a_fraction_that_keeps_no_row_is_refused():
    with pytest.raises(InvalidValue, match=r"keeps none of 5 rows, and an epoch without samples is none. Keep more"):
        Prune(0.05, "loss").plan(scored(EXAMPLE), epoch=0, seed=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"order": "best"}, "order='best': one of 'highest', 'lowest'"),
        ({"ties": "first"}, "ties='first': one of 'random', 'row'"),
        ({"max_age": 0}, "max_age=0: a number of epochs, 1 or more, 2147483647 at most, or None"),
        ({"max_age": 2.0}, "max_age=2.0: a number of epochs"),
    ],
)
def test_an_argument_that_is_none_is_refused_with_those_there_are(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        Prune(0.5, "loss", **arguments)


@pytest.mark.parametrize("values", [EXAMPLE, [np.nan] * 5])
def test_an_unknown_score_is_an_error_also_before_the_first_observation(values):
    with pytest.raises(UnknownName, match="no score 'el2n'; it has loss"):
        Prune(0.5, "el2n").plan(scored(values), epoch=0, seed=0)


@pytest.mark.parametrize("max_age", [10**400, 2**31, 3.0, True, -1])
def test_an_age_that_no_epoch_can_have_is_refused(max_age):
    with pytest.raises(InvalidValue, match="a number of epochs, 1 or more, 2147483647 at most, or None for no limit"):
        Prune(0.5, "loss", max_age=max_age)
