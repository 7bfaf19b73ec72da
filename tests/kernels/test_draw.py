"""Weighted draws follow their weights, and are the same everywhere."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptive_sampler.kernels import bits, draw
from adaptive_sampler.kernels.draw import multinomial_counts, sample_without_replacement
from tests import references
from tests.statistics import chi_square_limit

WEIGHTS = st.lists(
    st.one_of(st.sampled_from([0.0, 1e-45, 1.0, 1e38]), st.floats(0, 100, width=32)), min_size=1, max_size=140
).filter(any)
KEYS = st.integers(0, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(0, 200), KEYS)
def test_a_few_draws_are_made_one_by_one(weights, num_samples, key):
    weights = np.array(weights, np.float32)
    expected = references.drawn_one_by_one(weights, num_samples, key=key)
    np.testing.assert_array_equal(multinomial_counts(weights, num_samples, key=key), expected)


def test_draws_over_several_blocks_are_made_block_by_block():
    weights = np.random.default_rng(0).lognormal(size=20_001).astype(np.float32)
    expected = references.drawn_one_by_one(weights, 1000, key=3)
    np.testing.assert_array_equal(multinomial_counts(weights, 1000, key=3), expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 50, width=32), min_size=1, max_size=140), KEYS, KEYS)
@example([0.0] * 65, 1, 2)
@example([6.0, 12.0, 300.0, 1e-45], 1, 2)
def test_poisson_counts_are_quantiles_of_the_rows_uniforms(weights, key, more_key):
    weights = np.array(weights, np.float32)
    counts = np.zeros(len(weights), np.uint32)
    total = draw._poisson(np.uint64(key), np.uint64(more_key), weights, 1.5, counts)
    expected = references.poisson_counts(key, more_key, weights, 1.5)
    np.testing.assert_array_equal(counts, expected)
    assert total == sum(expected)


@pytest.mark.parametrize("num_samples", [0, 1, 1023, 1024, 5000, 300_000])
def test_there_are_as_many_draws_as_asked_for_and_none_of_a_row_without_weight(num_samples):
    weights = np.random.default_rng(1).lognormal(size=5000).astype(np.float32)
    weights[::3] = 0
    counts = multinomial_counts(weights, num_samples, key=11)
    assert counts.dtype == np.uint32
    assert counts.sum() == num_samples
    assert not counts[::3].any()


@pytest.mark.parametrize("at", [0, 4095, 4096, 9999])
@pytest.mark.parametrize("weight", [1e-45, 1.0, 3e38])
def test_one_positive_weight_takes_every_draw(at, weight):
    weights = np.zeros(10_000, np.float32)
    weights[at] = weight
    assert multinomial_counts(weights, 70_000, key=1)[at] == 70_000
    assert bits.rows(sample_without_replacement(weights, 5, key=1), 10_000).tolist() == [at]


@pytest.mark.parametrize("num_samples", [1000, 200_000])
def test_counts_fit_their_weights_by_chi_square(num_samples):
    weights = np.concatenate([np.full(50, 1), np.full(20, 7), [100, 0.5, 40]]).astype(np.float32)
    expected = weights / weights.sum() * num_samples
    counts = multinomial_counts(weights, num_samples, key=17)
    assert ((counts - expected) ** 2 / expected).sum() < chi_square_limit(len(weights) - 1)


def test_a_rows_count_varies_as_that_of_independent_draws():
    """Over many keys the variance is n·p·(1 - p): neither a Poisson's nor a systematic sample's."""
    weights = np.array([1, 1, 2], np.float32)
    counts = np.array([multinomial_counts(weights, 4096, key=k) for k in range(2000)])
    variance = counts.var(axis=0) / (4096 * np.array([3 / 16, 3 / 16, 1 / 4]))
    assert np.abs(variance - 1).max() < 5 * np.sqrt(2 / 2000)


def test_counts_of_other_keys_are_independent():
    weights = np.ones(20_000, np.float32)
    one, other = (multinomial_counts(weights, 20_000, key=k).astype(float) for k in (1, 2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(20_000)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(0, 150), KEYS)
def test_the_first_arrivals_are_in(weights, k, key):
    weights = np.array(weights, np.float32)
    expected = references.sample_without_replacement(weights, k, key=key)
    np.testing.assert_array_equal(sample_without_replacement(weights, k, key=key), expected)


@pytest.mark.parametrize("k", [0, 1, 70, 5000, 19_999, 20_000, 20_001, 30_000])
def test_the_guess_of_when_the_race_ends_never_shows(k):
    weights = np.random.default_rng(2).lognormal(size=30_001).astype(np.float32)
    weights[::3] = 0
    expected = references.sample_without_replacement(weights, k, key=5)
    np.testing.assert_array_equal(sample_without_replacement(weights, k, key=5), expected)


@pytest.mark.parametrize("power", [-110, -60, 60, 120])
def test_only_the_ratios_of_weights_matter(power):
    weights = np.random.default_rng(3).lognormal(size=30_001).astype(np.float32)
    scaled = weights * np.float32(2.0**power)
    once, again = (sample_without_replacement(some, 9000, key=6) for some in (weights, scaled))
    np.testing.assert_array_equal(once, again)


def test_weights_of_any_size_race_together():
    weights = np.repeat(np.array([1e-44, 1e-20, 1, 1e20, 3e38], np.float32), 4000)
    for k in (4000, 8000, 10_000, 19_000):
        expected = references.sample_without_replacement(weights, k, key=7)
        np.testing.assert_array_equal(sample_without_replacement(weights, k, key=7), expected)


def test_pairs_without_replacement_have_the_probability_of_successive_draws():
    weights = np.array([4, 3, 2, 1], np.float32)
    p = weights / weights.sum()
    pairs = {(i, j): p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j])) for i in range(4) for j in range(i)}
    seen = dict.fromkeys(pairs, 0)
    for key in range(6000):
        low, high = bits.rows(sample_without_replacement(weights, 2, key=key), 4).tolist()
        seen[high, low] += 1
    chi = sum((seen[pair] - 6000 * q) ** 2 / (6000 * q) for pair, q in pairs.items())
    assert chi < chi_square_limit(len(pairs) - 1)


def test_draws_are_the_same_on_every_platform():
    weights = (np.arange(12) % 5).astype(np.float32)
    assert multinomial_counts(weights, 30, key=1).tolist() == [0, 3, 2, 4, 7, 0, 1, 2, 4, 6, 0, 1]
    assert multinomial_counts(weights, 3000, key=1).tolist() == [
        0,
        137,
        286,
        432,
        563,
        0,
        153,
        303,
        420,
        575,
        0,
        131,
    ]
    assert bits.rows(sample_without_replacement(weights, 5, key=1), 12).tolist() == [1, 3, 4, 8, 9]


def test_no_rows_give_no_draws():
    none = np.empty(0, np.float32)
    assert multinomial_counts(none, 0, key=1).shape == (0,)
    assert sample_without_replacement(none, 0, key=1).shape == (0,)
