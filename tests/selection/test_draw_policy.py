"""Weighted draws: what is drawn, how often, and the weights that undo the bias."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import Draw
from tests import references
from tests.stores import scored

SCORES = st.lists(st.one_of(st.floats(0, 1e6, width=32), st.just(np.nan)), min_size=1, max_size=20).map(np.array)
WEIGHTS = [0.0, 1.0, 2.0, 5.0]


def plans(policy, store, number):
    return [policy.plan(store, epoch=epoch, seed=3) for epoch in range(number)]


def drawn(policy, store, number):
    """How often each row was drawn in so many plans."""
    return np.sum([plan.repeats for plan in plans(policy, store, number)], axis=0)


@pytest.mark.parametrize("floor", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("values", [WEIGHTS, [1.0, np.nan, 3.0, 0.0], [0.001, 0.002, 0.001, 0.004]])
def test_rows_are_drawn_in_proportion_to_their_scores(values, floor):
    # 400 × 50 draws: each count within five standard deviations of its expectation
    counts, p = drawn(Draw("loss", 50, floor=floor), scored(values), 400), references.draw_probabilities(values, floor)
    np.testing.assert_array_less(np.abs(counts - 20_000 * p), 5 * np.sqrt(20_000 * p * (1 - p)) + 0.5)


@given(scores=SCORES, number=st.one_of(st.none(), st.integers(1, 50)), floor=st.sampled_from([0.25, 1.0]))
def test_a_draw_has_the_number_of_samples_asked_for(scores, number, floor):
    plan = Draw("loss", number, floor=floor).plan(scored(scores), epoch=0, seed=0)
    everything = not np.isfinite(scores).any()
    assert plan.num_samples == (len(scores) if everything or number is None else number)


@pytest.mark.parametrize(("share", "number"), [(0.5, 2), (0.1, 1), (1.0, 4), (2.0, 8), (1e-9, 1)])
def test_a_draw_may_be_a_share_of_the_rows_also_above_one(share, number):
    assert Draw("loss", share).plan(scored(WEIGHTS), epoch=0, seed=0).num_samples == number


def test_a_share_that_is_more_than_a_plan_holds_is_refused():
    with pytest.raises(
        InvalidValue, match=r"num_samples=2000000000.0 of 4 rows is 8000000000: draw 4294967295 at most"
    ):
        Draw("loss", 2e9).plan(scored(WEIGHTS), epoch=0, seed=0)


@given(scores=SCORES, floor=st.sampled_from([0.25, 1.0]))
def test_the_unbiased_weight_of_a_row_is_one_over_n_p(scores, floor):
    plan = Draw("loss", 40, floor=floor, unbiased=True).plan(scored(scores), epoch=0, seed=0)
    if np.isfinite(scores).any():
        p = references.draw_probabilities(scores, floor)[plan.rows]
        np.testing.assert_allclose(plan.loss_weights_of(plan.rows), 1 / (len(scores) * p), rtol=1e-4)


def test_the_mean_unbiased_loss_is_that_of_all_rows():
    losses, store = np.array([4.0, 1.0, 2.0, 5.0]), scored([1.0, 1.0, 2.0, 5.0])
    estimates = [
        (plan.repeats * plan.loss_weights * losses).sum() / plan.num_samples
        for plan in plans(Draw("loss", 50, unbiased=True), store, 300)
    ]
    assert np.mean(estimates) == pytest.approx(losses.mean(), abs=5 * np.std(estimates) / math.sqrt(300))


def test_loss_weights_are_one_unless_asked_for():
    assert not Draw("loss").plan(scored(WEIGHTS), epoch=0, seed=0).weighted


def test_without_a_floor_a_row_of_score_zero_is_never_drawn():
    assert drawn(Draw("loss", 50), scored(WEIGHTS), 100)[0] == 0


def test_with_a_floor_a_row_of_score_zero_is_drawn_its_uniform_share():
    assert int(drawn(Draw("loss", 50, floor=0.4), scored(WEIGHTS), 400)[0]) == pytest.approx(2000, abs=220)


@pytest.mark.parametrize("replacement", [True, False])
def test_a_floor_may_be_of_any_precision(replacement):
    draws = [Draw("loss", 2, floor=of(0.5), replacement=replacement) for of in (float, np.float16, np.float32)]
    assert len({draw.plan(scored([0.0, 1.0, 3.0]), epoch=0, seed=0).indices().tobytes() for draw in draws}) == 1


def test_without_replacement_no_row_comes_twice():
    store = scored(np.arange(1.0, 31.0))
    assert [plan.repeats.max() for plan in plans(Draw("loss", 20, replacement=False), store, 20)] == [1] * 20


def test_without_replacement_a_row_of_score_zero_is_never_drawn():
    counts = drawn(Draw("loss", 3, replacement=False), scored(WEIGHTS), 20)
    assert counts.tolist() == [0, 20, 20, 20]


def test_without_replacement_the_first_draw_is_proportional():
    counts = drawn(Draw("loss", 1, replacement=False), scored(WEIGHTS), 2000)
    np.testing.assert_allclose(counts / 2000, np.array(WEIGHTS) / 8, atol=0.06)


def test_more_rows_than_have_a_score_cannot_be_drawn_without_replacement():
    with pytest.raises(InvalidValue, match="num_samples=4 without replacement, but only 3 rows have a positive 'loss'"):
        Draw("loss", replacement=False).plan(scored(WEIGHTS), epoch=0, seed=0)


def test_scores_that_are_all_zero_are_drawn_uniformly_with_a_floor():
    counts = drawn(Draw("loss", 50, floor=0.1), scored([0.0] * 4), 200)
    np.testing.assert_allclose(counts / 10_000, 0.25, atol=0.022)


@pytest.mark.parametrize("values", [[0.0] * 4, [0.0, np.nan, 0.0, np.nan]])
def test_scores_that_are_all_zero_without_a_floor_are_an_error_with_the_remedy(values):
    with pytest.raises(InvalidValue, match=r"every observed 'loss' is 0, so nothing can be drawn. Set floor above 0"):
        Draw("loss").plan(scored(values), epoch=0, seed=0)


@pytest.mark.parametrize("tiny", [1e-45, 1e-38, 1e-30])
def test_scores_may_be_as_small_as_float32_can_be(tiny):
    counts = drawn(Draw("loss", 50), scored([0.0, tiny] + [0.0] * 8), 2)
    assert counts.tolist() == [0, 100] + [0] * 8


def test_scores_may_be_as_large_as_float32_can_be():
    counts = drawn(Draw("loss", 50), scored([3e38, 0.0, 3e38]), 20)
    assert counts[1] == 0
    assert int(counts[0]) == pytest.approx(500, abs=80)


def test_a_negative_score_is_an_error_that_names_the_row():
    with pytest.raises(
        InvalidValue, match=r"'loss' of row 2 is -1.0: a score to draw by must be finite and not negative"
    ):
        Draw("loss").plan(scored([1.0, 2.0, -1.0]), epoch=0, seed=0)


def test_an_infinite_score_is_an_error_that_names_the_row():
    from adaptive_sampler import ScoreStore
    from adaptive_sampler.scoring import Forgetting

    with ScoreStore.create(None, 3, [Forgetting()]) as store:
        store.fold("forgetting", [0, 1], [0.0, 1.0])
        with pytest.raises(InvalidValue, match="'forgetting' of row 1 is inf: a score to draw by must be finite"):
            Draw("forgetting").plan(store, epoch=0, seed=0)


def test_draws_differ_from_epoch_to_epoch_and_seed_to_seed():
    store, policy = scored(np.ones(40)), Draw("loss")
    drawn_rows = {policy.plan(store, epoch=e, seed=s).indices().tobytes() for e in range(3) for s in range(3)}
    assert len(drawn_rows) == 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"floor": -0.1}, "floor=-0.1: the share drawn uniformly, 0 <= floor <= 1"),
        ({"floor": 1.1}, "floor=1.1: the share"),
        ({"floor": float("nan")}, "floor=nan: the share"),
        ({"floor": True}, "floor=True: the share"),
        ({"num_samples": 0}, "num_samples=0: a whole number, 1 or more, 4294967295 at most, or None"),
        ({"num_samples": 0.0}, "num_samples=0.0: a share of the rows, above 0, or a count of samples as an int"),
        ({"num_samples": float("nan")}, "num_samples=nan: a share"),
        ({"num_samples": float("inf")}, "num_samples=inf: a share"),
        ({"num_samples": 2**32}, "num_samples=4294967296: a whole number"),
        ({"num_samples": True}, "num_samples=True: a whole number"),
        ({"unbiased": True, "replacement": False}, "unbiased=True with replacement=False.*Draw with replacement"),
    ],
)
def test_an_argument_that_breaks_a_rule_is_refused(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        Draw("loss", **arguments)


@pytest.mark.parametrize(("score", "at_most"), [(1, 1.25), (400, 3.25), (4e6, 6.25)])
def test_the_plan_of_n_weighted_draws_holds_a_byte_a_row_and_more_only_where_a_count_needs_it(score, at_most):
    """One row of 2²¹, the others of which have the score 1, comes about 1, 400, and 1.4 million times."""
    n = 1 << 21
    scores = np.ones(n, np.float32)
    scores[7] = score
    store = scored(scores)
    Draw("loss").plan(store, epoch=0, seed=0)  # what is imported and compiled once
    tracemalloc.start()
    try:
        plan = Draw("loss").plan(store, epoch=1, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert plan.num_samples == n
    assert peak < at_most * n + (2 << 20)
