"""Exponentials and logarithms in lanes are those of the C library, to the last digit or two."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.kernels import exponential


@numba.njit
def powers(given, found):
    for i in range(given.size):
        found[i] = exponential.power(given[i])


@pytest.fixture(scope="module")
def spread_out():
    """float32 from `LOWEST` to 0, a million of them."""
    return np.linspace(exponential.LOWEST, 0, 1_000_001).astype(np.float32)


def test_a_float32s_power_has_its_digits(spread_out):
    found, exact = np.empty_like(spread_out), np.exp(spread_out.astype(np.float64))
    powers(spread_out, found)
    near = spread_out > -8  # of what is e^8 times as unlikely as the likeliest, a sum with it keeps half the digits
    np.testing.assert_allclose(found[near], exact[near], rtol=4e-7)
    np.testing.assert_allclose(found, exact, rtol=5e-6)  # half of it where the processor rounds a · b + c once


def test_the_power_of_0_is_1_and_of_the_lowest_a_float32_with_all_digits():
    given, found = np.array([0, exponential.LOWEST], np.float32), np.empty(2, np.float32)
    powers(given, found)
    assert found[0] == 1
    assert found[1] >= np.finfo(np.float32).tiny


@given(d=st.floats(exponential.LOWEST_64, 0))
def test_a_float64s_power_is_right_to_nine_digits(d):
    assert exponential.power_64(d) == pytest.approx(math.exp(d), rel=3e-10, abs=0)


@given(u=st.floats(0, 1e300) | st.floats(0, 2) | st.floats(0, 1e-30))
def test_a_logarithm_keeps_its_digits_next_to_0(u):
    assert exponential.log1p_64(u) == pytest.approx(math.log1p(u), rel=1e-10, abs=0)
