"""Scores become weights in two passes that agree with their twin, whatever float32 can hold."""

import numpy as np
import pytest
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
    weights = weigh.weigh(scores, exact.mean(scores), floor)
    expected = references.draw_probabilities(scores, floor) * len(scores)
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-45)


def test_a_score_too_small_beside_the_mean_for_float32_is_no_weight():
    scores = np.array([1e-45, 3e38], np.float32)
    weights = weigh.weigh(scores, 1.5e38, 0.0)
    assert (weights > 0).tolist() == [False, True]


def test_zero_is_not_negative_with_either_sign():
    assert weigh.survey(np.array([0.0, -0.0], np.float32)) == (2, 0, -1)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 200])
def test_pieces_are_all_weights_in_turn_and_their_sum_that_of_the_whole(n, monkeypatch):
    scores = np.random.default_rng(n).lognormal(0, 9, (n, 2)).astype(np.float32)[:, 0]  # as they lie in a record
    monkeypatch.setattr(weigh, "PIECE", 64)
    weights, whole = weigh.Weighed(scores, 2.0, 0.5), weigh.weigh(scores, 2.0, 0.5)
    found = dict(weigh.pieces(weights))
    assert [*found] == [*range(0, n, 64)]
    assert all(piece.flags.c_contiguous for piece in found.values())
    np.testing.assert_array_equal(np.concatenate([whole[:0], *found.values()]), whole)
    assert len(weights) == n
    assert weigh.summed(weights) == exact.summed(whole)


def test_weights_are_found_for_the_rows_that_are_asked_for():
    scores = np.array([0, np.nan, 4, 2], np.float32)
    weights = weigh.Weighed(scores, 2.0, 0.5)
    assert weights[np.array([3, 1, 3])].tolist() == [1, 1, 1]
    assert weights[1:3].tolist() == [1, 1.5]
