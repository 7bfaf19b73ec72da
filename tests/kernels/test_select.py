"""Rank windows are exact, whatever the keys and the ties."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import bits
from adaptive_sampler.kernels.select import hash_window, rank_window, without
from tests import references
from tests.kernels.test_identity import named

INF, TINY = np.inf, 1e-45
KEYS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, INF, -INF, np.nan, TINY, -TINY]),
    st.floats(width=32),
)


def names_of(n: int, kind: str) -> list[int] | list[str]:
    if kind == "keys":
        return [f"image-{row}" for row in range(n)]
    return list(range(n)) if kind == "numbers" else [row * row + 5 for row in range(n)]


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.lists(KEYS, max_size=140), st.lists(st.sampled_from([0.0, 1.0, np.nan]), max_size=140)),
    st.integers(0, 150),
    st.integers(0, 150),
    st.sampled_from(["random", "row"]),
    st.integers(0, 2**64 - 1),
    st.sampled_from(["numbers", "other numbers", "keys"]),
)
@example([np.nan] * 9, 0, 5, "random", 0, "numbers")
@example([0.0] * 65, 3, 64, "random", 1, "keys")
@example([0.0, -0.0] * 32, 3, 60, "row", 1, "numbers")
@example([-INF, INF, np.nan, -INF, INF], 0, 5, "row", 1, "numbers")
@example([-INF, INF, np.nan, -INF, INF], 1, 3, "random", 1, "other numbers")
def test_a_window_is_a_slice_of_the_sorted_rows(keys, lo, hi, ties, salt, kind):
    array, names = np.array(keys, np.float32), names_of(len(keys), kind)
    lo, hi = min(lo, hi), max(lo, hi)
    expected = references.rank_window(array, lo, hi, salt=salt, ties=ties, names=names)
    found = rank_window(array, lo, hi, salt=salt, ties=ties, identity=named(names))
    np.testing.assert_array_equal(found, expected)


def long_keys(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    keys = {
        "continuous": lambda: rng.lognormal(size=n),
        "sorted": lambda: np.arange(n),
        "five values": lambda: rng.integers(0, 5, n),
        "two hundred values": lambda: rng.integers(0, 200, n),
        "one value": lambda: np.zeros(n),
        "half unseen": lambda: np.where(rng.random(n) < 0.5, np.nan, rng.normal(size=n)),
        "nearly all unseen": lambda: np.where(rng.random(n) < 0.999, np.nan, rng.normal(size=n)),
        "mostly tied": lambda: np.where(rng.random(n) < 0.9, 1.0, rng.normal(size=n)),
    }[kind]()
    return keys.astype(np.float32)


@pytest.mark.parametrize("ties", ["random", "row"])
@pytest.mark.parametrize(
    "kind",
    [
        "continuous",
        "sorted",
        "five values",
        "two hundred values",
        "one value",
        "half unseen",
        "nearly all unseen",
        "mostly tied",
    ],
)
def test_the_sampled_guess_never_shows_in_the_result(kind, ties):
    n = 40_001
    keys = long_keys(kind, n)
    for lo, hi in [(0, n // 2), (n // 5, 2 * n // 5), (n // 2, n), (17, 18), (n - 5, n - 1)]:
        expected = references.rank_window(keys, lo, hi, salt=3, ties=ties)
        np.testing.assert_array_equal(rank_window(keys, lo, hi, salt=3, ties=ties), expected)


@pytest.mark.parametrize("ties", ["random", "row"])
@pytest.mark.parametrize("kind", ["continuous", "five values", "nearly all unseen", "mostly tied"])
def test_keys_that_lie_apart_are_chosen_as_those_side_by_side(kind, ties):
    n = 20_011  # so many that they are not partitioned as a whole, and a last word that is not full
    table = np.zeros((n, 5), np.float32)
    keys = table[:, 3]
    keys[:] = long_keys(kind, n)
    for lo, hi in [(0, n // 2), (n // 2, n), (n // 5, n // 2)]:
        expected = rank_window(keys.copy(), lo, hi, salt=3, ties=ties)
        np.testing.assert_array_equal(rank_window(keys, lo, hi, salt=3, ties=ties), expected)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 63, 64, 65, 5000])
@pytest.mark.parametrize("salt", [0, 2**64 - 1])
def test_a_hash_window_is_the_rank_window_of_equal_keys(n, salt):
    for lo, hi in [(0, n), (n // 3, n // 2), (0, n // 2), (n // 2, n + 9), (n, n)]:
        expected = references.rank_window(np.zeros(n, np.float32), lo, hi, salt=salt, ties="random")
        np.testing.assert_array_equal(hash_window(n, lo, hi, salt=salt), expected)


@pytest.mark.parametrize("kind", ["other numbers", "keys"])
def test_a_hash_window_goes_by_the_names_of_the_rows(kind):
    names = names_of(3000, kind)
    expected = references.rank_window(np.zeros(3000, np.float32), 700, 1500, salt=3, ties="random", names=names)
    np.testing.assert_array_equal(hash_window(3000, 700, 1500, salt=3, identity=named(names)), expected)


def test_windows_that_share_a_bound_partition_the_ranked_rows():
    keys = long_keys("mostly tied", 30_000)
    keys[::11] = np.nan
    bounds = [0, 1, 9_000, 9_001, 25_000, 30_000]
    parts = [rank_window(keys, a, b, salt=1, ties="random") for a, b in pairwise(bounds)]
    assert sum(bits.count(part) for part in parts) == np.count_nonzero(~np.isnan(keys))
    np.testing.assert_array_equal(np.bitwise_or.reduce(parts), references.pack(~np.isnan(keys)))


def test_random_ties_depend_on_the_row_and_not_on_how_many_follow():
    few, many = hash_window(1000, 0, 500, salt=5), hash_window(2000, 0, 1000, salt=5)
    both = np.unpackbits(few, count=1000, bitorder="little") == np.unpackbits(many, count=1000, bitorder="little")
    assert both.mean() > 0.9  # the thresholds differ a little, the hashes do not


def test_random_ties_favour_no_end_of_the_data_and_other_salts_keep_others():
    n = 1 << 20
    first, second = (np.unpackbits(hash_window(n, 0, n // 2, salt=s), bitorder="little") for s in (1, 2))
    assert first.sum() == second.sum() == n // 2
    five_sigma = 5 * 0.5 * np.sqrt(n / 4)
    assert abs(first[: n // 2].sum() - n / 4) < five_sigma
    assert abs((first & second).sum() - n / 4) < five_sigma


def test_selected_rows_are_the_same_on_every_platform():
    keys = np.array([3, 1, 2, 1, 1, np.nan, 2, 0, 1, 1], np.float32)
    np.testing.assert_array_equal(bits.rows(rank_window(keys, 2, 5, salt=9, ties="random"), 10), [1, 3, 9])
    expected = [7, 10, 22, 24, 37, 40, 62, 65, 68, 73]
    np.testing.assert_array_equal(bits.rows(hash_window(100, 40, 50, salt=9), 100), expected)


@pytest.mark.parametrize(("lo", "hi"), [(-1, 2), (3, 2)])
def test_a_window_that_is_none_is_refused(lo, hi):
    with pytest.raises(InvalidValue, match=f"lo={lo}, hi={hi}: a window needs 0 <= lo <= hi"):
        rank_window(np.zeros(5, np.float32), lo, hi, salt=0, ties="row")
    with pytest.raises(InvalidValue, match="a window needs"):
        hash_window(5, lo, hi, salt=0)


def test_other_ties_are_refused_by_name():
    with pytest.raises(InvalidValue, match="ties='first' is neither 'random' nor 'row'"):
        rank_window(np.zeros(5, np.float32), 0, 1, salt=0, ties="first")


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=140))
def test_rows_of_a_window_have_no_key_afterwards_and_the_others_have_theirs(rows):
    keys, hidden = np.array([key for key, _ in rows], np.float32), np.array([inside for _, inside in rows], np.bool_)
    found = without(keys, np.packbits(hidden, bitorder="little"))
    expected = [np.nan if inside else key for key, inside in zip(keys.tolist(), hidden.tolist(), strict=True)]
    np.testing.assert_array_equal(found, np.float32(expected))
