"""A sum of float32 is exact, in any order and of any parts."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptive_sampler.kernels import exact
from tests import references

VALUES = st.lists(st.floats(width=32), max_size=100).map(lambda values: np.array(values, np.float32))


def summed(*parts: np.ndarray) -> Fraction:
    sums = np.zeros(exact.EXPONENTS, np.int64)
    for part in parts:
        exact.add(part, sums)
    return exact.total(sums)


@settings(max_examples=100, deadline=None)
@given(VALUES)
@example(np.array([1e-45, -3.4e38, 3.4e38, -0.0], np.float32))
@example(np.array([np.inf, -np.inf, np.nan, 1], np.float32))
def test_the_sum_is_that_of_the_finite_values_without_an_error(values):
    assert summed(values) == references.exact_total(values)


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_what_is_added_is_counted(values):
    assert exact.add(values, np.zeros(exact.EXPONENTS, np.int64)) == np.count_nonzero(np.isfinite(values))


@settings(max_examples=50, deadline=None)
@given(VALUES, st.randoms(use_true_random=False), st.integers(0, 100))
def test_neither_the_order_nor_the_parts_matter(values, random, at):
    order = list(range(len(values)))
    random.shuffle(order)
    assert summed(values[order][:at], values[order][at:]) == summed(values)


@settings(max_examples=50, deadline=None)
@given(VALUES, VALUES)
def test_sums_add_up(one, other):
    sums = np.zeros((2, exact.EXPONENTS), np.int64)
    exact.add(one, sums[0])
    exact.add(other, sums[1])
    assert exact.total(sums.sum(axis=0)) == summed(one, other)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_as_a_float_it_is_rounded_once(values):
    assert float(summed(values)) == math.fsum(values[np.isfinite(values)].tolist())


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_the_mean_is_rounded_once(values):
    there = values[np.isfinite(values)].tolist()
    assert exact.mean(values) == (float(references.exact_total(there) / len(there)) if there else 0)
    assert exact.summed(values) == math.fsum(there)
