"""`Weigh` keeps every row and weighs its loss by its score, also by a function of one's own, and beside other policies."""

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore, testing
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.scoring import Confidence, Loss
from adaptive_sampler.selection import (
    Clip,
    Draw,
    Exponential,
    Focal,
    InfoBatch,
    Prune,
    Upsample,
    Weigh,
)
from tests.selection.weighing import EXAMPLE, near, of, two_scores, weights
from tests.stores import scored

# -- functions of one's own -------------------------------------------------------------------------------------------


def truncated(scores):
    """Ionides 2008: a weight is no more than √m times the mean."""
    return np.minimum(scores, scores.mean() * len(scores) ** 0.5)


def test_a_function_gets_the_scores_of_observed_rows_as_float32():
    seen = []
    of([3.0, np.nan, 1.0], lambda scores: seen.append(scores) or scores)
    assert (seen[0].tolist(), seen[0].dtype) == ([3.0, 1.0], np.float32)


@pytest.mark.parametrize(
    "how", [truncated, np.sqrt, [np.log1p, truncated], lambda scores: scores > 1], ids=["def", "ufunc", "list", "mask"]
)
def test_a_function_of_ones_own_weighs(how):
    steps = how if isinstance(how, list) else [how]
    expected = np.float32(EXAMPLE)
    for step in steps:
        expected = np.float32(step(expected))
    assert of(EXAMPLE, how) == near(expected)


def test_a_function_of_several_scores_gets_those_of_rows_observed_for_all_of_them():
    store = two_scores([1.0, 2.0, 3.0, np.nan], [4.0, np.nan, 2.0, 1.0])
    found = weights(Weigh(("target", "proposal"), lambda target, proposal: target + proposal), store)
    assert found.tolist() == [5, 1, 5, 1]


def test_a_function_that_changes_what_it_gets_changes_no_score():
    def halved(scores):
        scores /= 2
        return scores

    store = scored(EXAMPLE)
    for _ in range(2):
        assert weights(Weigh("loss", halved), store) == near(np.array(EXAMPLE) / 2)
    assert store["loss"].tolist() == EXAMPLE


def test_a_function_may_return_an_array_of_float64():
    assert of(EXAMPLE, lambda scores: scores.astype(np.float64) / 3).dtype == np.float32


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda scores: None, r"<lambda> returns NoneType of shape \(\) .*one real number for each is needed, \(4,\)"),
        (lambda scores: scores[:, None], r"of shape \(4, 1\) and dtype float32 for 4 scores"),
        (lambda scores: scores[1:], r"of shape \(3,\)"),
        (lambda scores: scores.mean(), r"returns float32 of shape \(\)"),
        (lambda scores: scores + 1j, "dtype complex64"),
    ],
)
def test_what_is_no_number_for_each_score_is_refused(how, words):
    with pytest.raises(InvalidValue, match=words):
        of(EXAMPLE, how)


# -- rows, means and zeros --------------------------------------------------------------------------------------------


def test_every_row_is_visited_once():
    plan = Weigh("loss", "linear").plan(scored(EXAMPLE), epoch=1, seed=0)
    assert (plan.num_samples, plan.num_rows, plan.weighted) == (4, 4, True)


def test_rows_never_observed_have_weight_one():
    assert of([np.nan, 1.0, 3.0], "linear").tolist() == [1, 0.5, 1.5]


def test_as_long_as_no_row_was_observed_nothing_is_weighed_and_no_function_called():
    def never(scores):
        raise AssertionError

    assert of([np.nan] * 3, never).tolist() == [1, 1, 1]


@pytest.mark.parametrize("values", [[7.0], [0.25] * 5], ids=["one row", "equal scores"])
@pytest.mark.parametrize("how", ["linear", "exponential"])
def test_what_has_mean_one_weighs_nothing_where_scores_are_equal(values, how):
    assert not Weigh("loss", how).plan(scored(values), epoch=1, seed=0).weighted


def test_weights_are_what_the_function_made_unless_their_mean_is_to_be_one():
    assert of([0.9, 0.5], Focal()) == near([0.01, 0.25])
    assert of([0.9, 0.5, np.nan], Focal(), normalize=True) == near([0.01 / 0.13, 0.25 / 0.13, 1])


def test_rows_of_weight_zero_are_visited():
    plan = Weigh("loss", Focal()).plan(scored([1.0, 0.5]), epoch=1, seed=0)
    assert (plan.num_rows, plan.loss_weights.tolist()) == (2, [0, 0.25])


@pytest.mark.parametrize("normalize", [False, True])
def test_zero_for_all_observed_rows_is_allowed_beside_rows_that_were_not(normalize):
    assert of([1.0, 1.0, np.nan], Focal(), normalize=normalize).tolist() == [0, 0, 1]


def test_an_epoch_without_any_weight_is_refused():
    with pytest.raises(InvalidValue, match=r"Weigh\(.*every loss weight is 0, so that nothing would be learned"):
        of([1.0, 1.0], Focal())
    assert of([1.0, 1.0], [Focal(), lambda weights: weights + 0.01]) == near([0.01, 0.01])  # the remedy


def test_an_epoch_of_which_no_kept_row_has_a_weight_is_refused():
    store = scored([1.0, 0.5])
    with pytest.raises(InvalidValue, match="every loss weight is 0"):
        (Prune(0.5, "loss") & Weigh("loss", "focal")).plan(store, epoch=1, seed=0)


# -- beside other policies, in a sampler ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [Prune(0.5, "loss"), Upsample(3, "loss"), InfoBatch(0.5, "loss", epochs=10), Weigh("loss", "linear")]
)
def test_weights_multiply_and_the_order_makes_no_difference(other):
    store, weigh = scored(np.linspace(0.1, 0.9, 20)), Weigh("loss", Exponential(0.3))
    plans = [policy.plan(store, epoch=2, seed=5) for policy in (other & weigh, weigh & other)]
    alone = other.plan(store, epoch=2, seed=5)
    assert all(np.array_equal(plan.repeats, alone.repeats) for plan in plans)
    expected = np.where(alone.repeats > 0, alone.loss_weights.astype(np.float64) * weights(weigh, store), 0)
    for plan in plans:
        assert plan.loss_weights == near(expected)


def test_the_mean_is_that_of_all_observed_rows_not_of_what_another_part_keeps():
    plan = (Prune(2, "loss") & Weigh("loss", "linear")).plan(scored(EXAMPLE), epoch=1, seed=0)
    assert plan.loss_weights.tolist() == [0, 1.0, 0, 2.25]


@pytest.mark.parametrize(
    "how",
    [
        "focal",
        "linear",
        Exponential(0.5),
        ["exponential", Clip(0.05, 0.05)],
        truncated,
        np.sqrt,
        lambda scores: scores + 1,
    ],
    ids=["focal", "linear", "temperature", "several", "def", "ufunc", "lambda"],
)
def test_a_way_to_weigh_keeps_the_contract_of_policies(how):
    testing.check_policy(Weigh("loss", how), scored([*np.linspace(0, 1, 30), np.nan]))


def test_a_ratio_keeps_the_contract_of_policies():
    store = two_scores([1.0, 2.0, np.nan], [1.0, 3.0, 2.0])
    testing.check_policy(Weigh(["target", "proposal"], "ratio", normalize=True) & Draw("proposal"), store)


def test_a_sampler_gives_the_weights_of_its_rows():
    sampler = AdaptiveSampler(scored(EXAMPLE), Prune(2, "loss") & Weigh("loss", "linear"))
    rows = np.array(list(sampler))
    assert dict(zip(rows.tolist(), sampler.loss_weights(rows).tolist(), strict=True)) == {1: 1.0, 3: 2.25}


def test_a_sampler_names_each_score_that_is_not_in_its_store():
    with pytest.raises(UnknownName, match="no score 'proposal'"):
        AdaptiveSampler(scored(EXAMPLE), Weigh(["loss", "proposal"], "ratio"))


def test_a_sampler_warns_of_the_score_that_nothing_feeds():
    store = ScoreStore.create(None, 4, [Confidence(), Loss()])
    sampler = AdaptiveSampler(store, Weigh("confidence", "focal"))
    list(sampler)
    with pytest.warns(RuntimeWarning, match="goes by 'confidence', and no row of it was observed"):
        list(sampler)
