"""Sorted rows and mean ranks are exact, whatever the numbers and their width."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive_sampler.kernels.ranks import correlation, mean_ranks, ordered, sort_keys
from tests import references

TINY = {np.float32: 1e-45, np.float64: 5e-324}
each_width = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def numbers(dtype: type) -> st.SearchStrategy[np.ndarray]:
    width = 8 * np.dtype(dtype).itemsize
    some = st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, TINY[dtype], -TINY[dtype]])
    return arrays(dtype, st.integers(0, 80), elements=some | st.floats(width=width, allow_nan=False), fill=st.nothing())


@each_width
@given(st.data())
def test_rows_are_in_the_order_of_a_stable_argsort(dtype: type, data: st.DataObject) -> None:
    values = data.draw(numbers(dtype))
    keys = sort_keys(values)
    found, rows = ordered(keys)
    np.testing.assert_array_equal(rows, np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(found, keys[rows])


@each_width
@given(st.data())
@example(data=None)
def test_equal_numbers_have_the_mean_of_their_ranks(dtype: type, data: st.DataObject | None) -> None:
    values = np.array([0.0, -0.0, 0.0, -np.inf], dtype) if data is None else data.draw(numbers(dtype))
    np.testing.assert_array_equal(mean_ranks(*ordered(sort_keys(values))) / 2, references.mean_ranks(values))


@pytest.mark.parametrize("kind", ["one value", "few values", "large", "one digit differs"])
def test_long_arrays_are_sorted_alike(kind: str) -> None:
    rng, n = np.random.default_rng(0), 20_000
    values = {
        "one value": np.zeros(n),
        "few values": rng.integers(0, 5, n),
        "large": rng.normal(size=n) * 1e30,
        "one digit differs": np.float32(1) + rng.integers(0, 2000, n) * np.spacing(np.float32(1)),
    }[kind].astype(np.float32)
    np.testing.assert_array_equal(ordered(sort_keys(values))[1], np.argsort(values, kind="stable"))


def test_what_is_given_stays_as_it_is() -> None:
    keys = np.array([3, 1, 2], np.uint32)
    ordered(keys)
    assert keys.tolist() == [3, 1, 2]


def test_a_single_value_has_no_correlation() -> None:
    ranks = np.array([3, 3], np.uint32), np.array([2, 4], np.uint32)
    assert np.isnan(correlation(*ranks))
