"""The ways of the literature to weigh a loss by a score, each beside its slow twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.selection import (
    Clip,
    Draw,
    Exponential,
    Focal,
    Proportional,
    Ratio,
    Weigh,
)
from tests import references
from tests.selection.weighing import EXAMPLE, near, of, two_scores, weights
from tests.stores import scored

LOSSES = st.lists(st.floats(0, 16, width=16), min_size=1, max_size=40)
SHARES = st.tuples(st.integers(0, 49), st.integers(1, 49))  # hundredths at either end


@pytest.mark.parametrize(
    ("p", "gamma", "weight"), [(0.9, 2, 0.01), (0.5, 2, 0.25), (1.0, 2, 0.0), (0.0, 5, 1.0), (0.5, 0.5, 0.5**0.5)]
)
def test_focal_weighs_by_what_is_missing_to_certainty(p, gamma, weight):
    assert of([p, 0.5], Focal(gamma))[0] == near(weight)


def test_focal_with_gamma_zero_weighs_nothing():
    plan = Weigh("loss", Focal(0)).plan(scored([0.0, 0.3, 1.0]), epoch=1, seed=0)
    assert not plan.weighted


def test_linear_is_the_score_over_the_mean_score():
    assert of(EXAMPLE, "linear").tolist() == [0.25, 1.0, 0.5, 2.25]


def test_a_floor_leaves_every_row_a_share_of_equal_weight():
    assert of([0.0, 2.0], Proportional(floor=0.1)) == near([0.1, 1.9])


@pytest.mark.parametrize(("floor", "weight"), [(0.0, 0.0), (0.1, 1.0)])
def test_where_all_scores_are_zero_a_floor_makes_all_weights_one(floor, weight):
    assert of([0.0, 0.0, np.nan], Proportional(floor)).tolist() == [weight, weight, 1.0]


def test_exponential_makes_a_factor_of_e_of_each_temperature():
    found = of([0.0, 1.0, 2.0], Exponential(0.5))
    assert (found[1] / found[0], found[2] / found[1]) == (near(np.e**2), near(np.e**2))
    assert found.mean() == near(1)


def test_a_negative_temperature_weighs_high_scores_down():
    assert of([0.0, 1.0, 2.0], Exponential(-1)) == near(of([2.0, 1.0, 0.0], Exponential(1)))


def test_exponential_weights_of_any_finite_scores_are_finite():
    assert of([0.0, 3e38, 3e38], Exponential(1e-30)).tolist() == [0, 1.5, 1.5]


def test_clip_brings_in_the_ends_of_scores_before_and_of_weights_after_another_step():
    scores = [1.0, 2.0, 3.0, 100.0]
    before, after = of(scores, [Clip(highest=0.25), "linear"]), of(scores, ["linear", Clip(highest=0.25)])
    assert before == near(np.array([1, 2, 3, 3]) / 2.25)
    assert after == near(np.array([1, 2, 3, 3]) / 26.5)


def test_ratio_is_the_first_score_over_the_second():
    store = two_scores([1.0, 2.0, 3.0], [2.0, 2.0, 1.0])
    assert weights(Weigh(["target", "proposal"], "ratio"), store).tolist() == [0.5, 1.0, 3.0]


def test_draw_beside_the_ratio_to_a_uniform_target_is_the_unbiased_draw():
    store = two_scores(np.ones(50), np.linspace(0.5, 1.5, 50))  # equal sums
    composed = Draw("proposal") & Weigh(["target", "proposal"], Ratio())
    plans = [policy.plan(store, epoch=1, seed=3) for policy in (composed, Draw("proposal", unbiased=True))]
    assert plans[0].indices().tolist() == plans[1].indices().tolist()
    assert plans[0].loss_weights == near(plans[1].loss_weights)


@given(st.lists(st.floats(0, 1, width=16), min_size=1, max_size=40), st.sampled_from([0.5, 1.0, 2.0, 5.0]))
def test_focal_weights_are_those_of_the_twin(values, gamma):
    scores = [*values, 0.5]
    assert of(scores, Focal(gamma)) == near(references.focal(scores, gamma))


@given(LOSSES, st.sampled_from([0.0, 0.25, 1.0]))
def test_proportional_weights_are_those_of_the_twin(values, floor):
    scores = [*values, 1.0]
    assert of(scores, Proportional(floor)) == near(references.proportional(scores, floor))


@given(LOSSES, st.sampled_from([0.5, 2.0, -1.0]))
def test_exponential_weights_are_those_of_the_twin(values, temperature):
    assert of(values, Exponential(temperature)) == near(references.exponential(values, temperature))


@given(LOSSES, SHARES)
def test_clipped_weights_are_those_of_the_twin(values, shares):
    lowest, highest = (share / 100 for share in shares)
    scores = [float(np.float32(value + 1)) for value in values]
    assert of(scores, Clip(lowest, highest)).tolist() == references.clip(scores, lowest, highest)
