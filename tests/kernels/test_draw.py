"""Weighted draws follow their weights, and are the same everywhere."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptive_sampler.kernels import bits, draw, weigh
from adaptive_sampler.kernels.draw import multinomial_counts, sample_without_replacement
from adaptive_sampler.kernels.identity import KeyIdentity
from adaptive_sampler.kernels.weigh import Weighed
from tests import references
from tests.kernels.test_identity import named, packed
from tests.statistics import chi_square_limit

WEIGHTS = st.lists(
    st.one_of(st.sampled_from([0.0, 1e-45, 1.0, 1e38]), st.floats(0, 100, width=32)), min_size=1, max_size=140
).filter(any)
KEYS = st.integers(0, 2**64 - 1)


def names_of(n: int, keyed: bool) -> list[int] | list[str]:
    return [f"image-{row}" for row in range(n)] if keyed else list(range(n))


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(0, 200), KEYS, st.booleans())
def test_a_few_draws_are_the_first_arrivals(weights, num_samples, key, keyed):
    weights, names = np.array(weights, np.float32), names_of(len(weights), keyed)
    expected = references.multinomial_counts(weights, num_samples, key=key, names=names)
    counts = multinomial_counts(weights, num_samples, key=key, identity=named(names))
    assert counts.tolist() == expected


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("num_samples", [300, 1024, 4000])
def test_many_draws_are_counted_until_most_have_come(num_samples, keyed):
    weights = np.random.default_rng(0).lognormal(size=700).astype(np.float32)
    names = names_of(len(weights), keyed)
    expected = references.multinomial_counts(weights, num_samples, key=3, names=names)
    assert multinomial_counts(weights, num_samples, key=3, identity=named(names)).tolist() == expected


def test_counts_whose_sum_is_too_large_are_made_anew_by_other_numbers(monkeypatch):
    weights, key = np.ones(50, np.float32), 4
    attempts = []

    def far_too_many(start, *arguments):
        attempts.append(int(start))
        return draw_poisson(start, *arguments) + (10**6 if len(attempts) < 3 else 0)

    draw_poisson = draw.poisson
    monkeypatch.setattr(draw, "poisson", far_too_many)
    assert multinomial_counts(weights, 2000, key=key).sum() == 2000
    assert attempts == [references.stream(key, use) for use in (2, 4, 6)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 50, width=32), min_size=1, max_size=140), KEYS, KEYS, st.booleans())
@example([0.0] * 65, 1, 2, False)
@example([6.0, 12.0, 300.0, 1e-45], 1, 2, True)
def test_poisson_counts_are_quantiles_of_the_rows_uniforms(weights, start, more, keyed):
    weights, names = np.array(weights, np.float32), names_of(len(weights), keyed)
    counts = np.zeros(len(weights), np.uint32)
    total = draw.poisson(np.uint64(start), np.uint64(more), *named(names).names, 0, weights, 1.5, counts)
    expected = references.poisson_counts(start, more, weights, 1.5, names)
    np.testing.assert_array_equal(counts, expected)
    assert total == sum(expected)


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("num_samples", [5, 1024, 3000])
@pytest.mark.parametrize("n", [64, 127, 128, 300])
def test_weights_that_are_made_a_piece_at_a_time_give_the_draws_of_their_array(n, num_samples, keyed, monkeypatch):
    scores = np.random.default_rng(n).lognormal(size=n).astype(np.float32)
    scores[::7] = np.nan
    some, identity = Weighed(scores, 1.5, 0.25), named(names_of(n, keyed))
    array = some[:]
    many = multinomial_counts(array, num_samples, key=6, identity=identity)
    once = sample_without_replacement(array, min(num_samples, n // 2), key=6, identity=identity)
    monkeypatch.setattr(weigh, "PIECE", 64)
    np.testing.assert_array_equal(multinomial_counts(some, num_samples, key=6, identity=identity), many)
    np.testing.assert_array_equal(
        sample_without_replacement(some, min(num_samples, n // 2), key=6, identity=identity), once
    )


@pytest.mark.parametrize("n", [2, 5000])
@pytest.mark.parametrize(
    ("most", "dtype"),
    [(255, np.uint8), (256, np.uint16), (65_535, np.uint16), (65_536, np.uint32), (200_000, np.uint32)],
)
def test_counts_are_as_narrow_as_the_largest_allows_and_exact_beyond(n, most, dtype):
    """At n = 5000 the fewest of these draws are the first arrivals alone, at n = 2 all but those of 1024 and more."""
    weights = np.zeros(n, np.float32)
    weights[n // 2] = 1
    counts = multinomial_counts(weights, most, key=1)
    assert (counts.dtype, counts[n // 2], np.count_nonzero(counts)) == (dtype, most, 1)


def test_neighbours_of_a_count_that_needs_more_bits_keep_theirs(monkeypatch):
    """The first piece is counted in 8 bits, the second needs 16, and the first arrivals after that are added to both."""
    monkeypatch.setattr(weigh, "PIECE", 64)
    weights = np.ones(192, np.float32)
    weights[100] = 300
    counts = multinomial_counts(weights, 4000, key=2)
    assert counts.dtype == np.uint16
    assert counts.tolist() == references.multinomial_counts(weights, 4000, key=2, names=range(192))


@pytest.mark.parametrize("num_samples", [5, 200, 1500])
@pytest.mark.parametrize("keyed", [False, True])
def test_neither_the_order_of_rows_nor_how_they_are_parted_changes_a_draw(num_samples, keyed):
    weights = np.random.default_rng(4).lognormal(size=200).astype(np.float32)
    identity, order = named(names_of(200, keyed)), np.random.default_rng(5).permutation(200)
    one = multinomial_counts(weights, num_samples, key=8, identity=identity)
    other = multinomial_counts(weights[order], num_samples, key=8, identity=identity.part(order))
    np.testing.assert_array_equal(one[order], other)


@pytest.mark.parametrize("num_samples", [0, 1, 1023, 1024, 5000, 100_000])
def test_there_are_as_many_draws_as_asked_for_and_none_of_a_row_without_weight(num_samples):
    weights = np.random.default_rng(1).lognormal(size=5000).astype(np.float32)
    weights[::3] = 0
    counts = multinomial_counts(weights, num_samples, key=11)
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
@given(WEIGHTS, st.integers(0, 150), KEYS, st.booleans())
def test_the_first_arrivals_are_in(weights, k, key, keyed):
    weights, names = np.array(weights, np.float32), names_of(len(weights), keyed)
    expected = references.sample_without_replacement(weights, k, key=key, names=names)
    np.testing.assert_array_equal(sample_without_replacement(weights, k, key=key, identity=named(names)), expected)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_rows_that_arrive_at_once_and_have_one_hash_come_by_their_keys(k):
    hashes, keys = np.full(3, 7, np.uint64), ["b", "a", "c"]
    identity, weights = KeyIdentity(hashes, *packed(keys)), np.ones(3, np.float32)
    kept = sample_without_replacement(weights, k, key=2, identity=identity)
    assert bits.rows(kept, 3).tolist() == sorted([1, 0, 2][:k])


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
    few = [0, 1, 1, 5, 8, 0, 0, 0, 5, 9, 0, 1]
    many = [0, 136, 293, 437, 571, 0, 139, 302, 428, 560, 0, 134]
    assert multinomial_counts(weights, 30, key=1).tolist() == few
    assert multinomial_counts(weights, 3000, key=1).tolist() == many
    assert bits.rows(sample_without_replacement(weights, 5, key=1), 12).tolist() == [1, 3, 4, 8, 9]


def test_draws_by_keys_are_the_same_on_every_platform():
    weights, keys = (np.arange(12) % 5).astype(np.float32), named(names_of(12, keyed=True))
    few = [0, 1, 6, 6, 2, 0, 1, 2, 6, 5, 0, 1]
    many = [0, 136, 297, 438, 596, 0, 153, 279, 427, 519, 0, 155]
    assert multinomial_counts(weights, 30, key=1, identity=keys).tolist() == few
    assert multinomial_counts(weights, 3000, key=1, identity=keys).tolist() == many
    assert bits.rows(sample_without_replacement(weights, 5, key=1, identity=keys), 12).tolist() == [2, 3, 4, 8, 9]


def test_no_rows_give_no_draws():
    none = np.empty(0, np.float32)
    assert multinomial_counts(none, 0, key=1).shape == (0,)
    assert sample_without_replacement(none, 0, key=1).shape == (0,)
