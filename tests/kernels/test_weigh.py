"""Scores become weights in two passes that agree with their twin, whatever float32 can hold."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.kernels import exact, weigh
from tests import references

SCORES = st.floats(0, float(np.finfo(np.float32).max), width=32) | st.just(float("nan"))
VALUES = st.lists(SCORES, min_size=1, max_size=200).map(lambda values: np.array(values, np.float32))


@given(VALUES)
def test_the_numbers_are_those_of_the_scores_that_are_there(scores):
    known, positive, bad = weigh.survey(scores)
    there = scores[~np.isnan(scores)].astype(np.float64)
    assert (known, positive, bad) == (len(there), np.count_nonzero(there), -1)


@given(VALUES, st.sampled_from([-1.0, -1e-45, np.inf, -np.inf]), st.data())
def test_the_first_negative_or_infinite_score_is_named(scores, wrong, data):
    row = data.draw(st.integers(0, len(scores) - 1))
    scores[row] = wrong
    if row + 1 < len(scores):
        scores[data.draw(st.integers(row + 1, len(scores) - 1))] = wrong
    assert weigh.survey(scores)[2] == row


@given(VALUES.filter(lambda v: bool((v > 0).any())), st.floats(0, 1))
def test_weights_are_the_probabilities_times_n(scores, floor):
    weights, positive = weigh.weigh(scores, exact.mean(scores), floor)
    expected = references.draw_probabilities(scores, floor) * len(scores)
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-45)
    assert positive == np.count_nonzero(weights)


def test_a_score_too_small_beside_the_mean_for_float32_is_no_weight():
    scores = np.array([1e-45, 3e38], np.float32)
    weights, positive = weigh.weigh(scores, 1.5e38, 0.0)
    assert (weights[0], positive) == (0, 1)


def test_zero_is_not_negative_with_either_sign():
    assert weigh.survey(np.array([0.0, -0.0], np.float32)) == (2, 0, -1)
