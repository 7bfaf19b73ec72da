"""InfoBatch drops a random share of the easy rows and weighs the rest up, so that the expected total weight is n."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import InfoBatch
from tests.stores import scored

SCORES = [0.1, 0.2, 0.3, 2.0, 3.0]  # mean 1.12: rows 0, 1, 2 are easy


def weights(policy, store, epoch, seed=0):
    return policy.plan(store, epoch=epoch, seed=seed).loss_weights


def full_epochs(epochs, anneal=0.875):
    """The epochs in which every row has weight 1, once there are scores."""
    store = scored(np.arange(10.0))
    policy = InfoBatch(epochs=epochs, anneal=anneal)
    return [epoch for epoch in range(epochs) if (weights(policy, store, epoch) == 1).all()]


@pytest.mark.parametrize(
    ("epochs", "full"), [(8, [7]), (10, [8, 9]), (200, list(range(175, 200))), (1, [0]), (100, list(range(87, 100)))]
)
def test_the_last_epochs_visit_everything_with_weight_one(epochs, full):
    assert full_epochs(epochs) == full


@pytest.mark.parametrize(
    ("anneal", "full"), [(0.0, list(range(10))), (1.0, []), (0.7, [7, 8, 9]), (0.29, list(range(2, 10)))]
)
def test_annealing_starts_at_the_floor_of_its_share_of_the_epochs(anneal, full):
    assert full_epochs(10, anneal) == full


def test_before_the_first_observation_everything_is_visited_with_weight_one():
    assert weights(InfoBatch(epochs=8), scored([np.nan] * 5), epoch=0).tolist() == [1] * 5


def test_rows_at_or_above_the_mean_stay_with_weight_one_and_the_easy_ones_that_stay_have_two():
    store = scored(SCORES)
    seen = {tuple(weights(InfoBatch(epochs=8), store, epoch=1, seed=seed)) for seed in range(60)}
    assert {row[3:] for row in seen} == {(1, 1)}
    assert {weight for row in seen for weight in row[:3]} == {0, 2}


def test_of_three_easy_rows_one_or_two_stay_so_that_the_mean_total_weight_is_n():
    store = scored(SCORES)
    totals = [weights(InfoBatch(epochs=8), store, epoch=1, seed=seed).sum() for seed in range(400)]
    assert set(totals) == {4.0, 6.0}
    assert np.mean(totals) == pytest.approx(5, abs=0.25)  # five standard errors


@given(st.lists(st.floats(0, 100, width=16), min_size=2, max_size=30), st.sampled_from([0.25, 0.5, 0.8]))
def test_the_expected_total_weight_is_n_whatever_the_scores(values, ratio):
    easy = int((np.array(values) < np.mean(np.array(values, np.float64))).sum())
    store = scored(values)
    totals = [weights(InfoBatch(ratio, epochs=8), store, epoch=1, seed=seed).sum() for seed in range(3)]
    share = (1 - ratio) * easy
    allowed = [len(values) - easy + stay / (1 - ratio) for stay in (int(share + 1e-9), int(np.ceil(share - 1e-9)))]
    assert all(np.isclose(total, allowed, rtol=1e-5).any() for total in totals)


def test_a_ratio_in_half_precision_weighs_up_by_its_inverse_in_full():
    ratio = np.float16(0.3)
    found = weights(InfoBatch(ratio, epochs=8), scored(SCORES), epoch=1)
    assert found.max() == np.float32(1 / (1 - float(ratio)))


def test_equal_scores_are_none_below_the_mean_so_nothing_is_dropped():
    assert weights(InfoBatch(epochs=8), scored([0.1] * 7), epoch=1).tolist() == [1] * 7


def test_a_row_never_observed_stays_with_weight_one():
    seen = [weights(InfoBatch(epochs=8), scored([*SCORES, np.nan]), epoch=1, seed=seed)[5] for seed in range(20)]
    assert seen == [1] * 20


def test_every_easy_row_stays_equally_often():
    store = scored([0.0] * 10 + [1.0] * 10)
    stayed = np.sum([weights(InfoBatch(epochs=8), store, epoch=1, seed=seed) > 0 for seed in range(400)], axis=0)
    assert stayed[10:].tolist() == [400] * 10
    assert np.abs(stayed[:10] - 200).max() < 50  # five standard deviations


def test_another_epoch_drops_other_rows():
    store = scored([0.0] * 20 + [1.0] * 20)
    assert len({weights(InfoBatch(epochs=100), store, epoch).tobytes() for epoch in range(5)}) == 5


def test_a_ratio_of_zero_drops_and_weighs_nothing():
    plan = InfoBatch(0.0, epochs=8).plan(scored(SCORES), epoch=1, seed=0)
    assert (plan.num_samples, plan.weighted) == (5, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ratio": 1.0, "epochs": 3}, "ratio=1.0: the share of easy rows to drop, 0 <= ratio < 1"),
        ({"ratio": -0.1, "epochs": 3}, "ratio=-0.1"),
        ({"ratio": "0.5", "epochs": 3}, "ratio='0.5': the share of easy rows to drop"),
        ({"anneal": None, "epochs": 3}, "anneal=None: the share of epochs"),
        ({"anneal": np.array([0.5]), "epochs": 3}, r"anneal=array\(\[0.5\]\): the share of epochs"),
        ({"anneal": 1.5, "epochs": 3}, "anneal=1.5: the share of epochs before all rows return"),
        ({"epochs": 0}, "epochs=0: how many epochs the training has, 1 or more"),
    ],
)
def test_an_argument_that_breaks_a_rule_is_refused(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        InfoBatch(**arguments)


@given(st.data(), st.lists(st.floats(0, 100, width=16), min_size=2, max_size=30), st.sampled_from([0.25, 0.5]))
def test_per_group_the_mean_and_the_dropped_share_are_each_groups_own(data, values, ratio):
    groups = np.array(data.draw(st.lists(st.sampled_from("ab"), min_size=len(values), max_size=len(values))))
    found = weights(InfoBatch(ratio, epochs=8, per_group=groups), scored(values), epoch=1)
    for group in set(groups.tolist()):
        own, each = np.array(values, np.float64)[groups == group], found[groups == group]
        easy = own < own.mean()
        assert (each[~easy] == 1).all()
        stayed = int((each[easy] > 0).sum())
        assert np.allclose(each[easy][each[easy] > 0], 1 / (1 - ratio))
        assert stayed in {int(np.floor((1 - ratio) * easy.sum())), int(np.ceil((1 - ratio) * easy.sum()))}


def test_one_group_of_all_rows_is_as_none():
    store = scored(np.arange(50.0))
    plain, grouped = (
        weights(InfoBatch(epochs=8, per_group=groups), store, epoch=1) for groups in (None, np.zeros(50, int))
    )
    assert plain.tolist() == grouped.tolist()


def test_a_group_without_a_score_is_kept_with_weight_one():
    found = weights(
        InfoBatch(epochs=8, per_class=[0] * 5 + [1] * 3), scored([*SCORES, np.nan, np.nan, np.nan]), epoch=1
    )
    assert found[5:].tolist() == [1, 1, 1]
