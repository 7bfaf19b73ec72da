"""Rows are chosen one after another by what each adds, as the naive greedy choice does."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.kernels.cover import Neighbours
from tests import references

EIGHTH = st.integers(0, 8).map(lambda eighths: eighths / 8)  # sums of which are exact


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(1, 12))
def test_the_lazy_choice_is_the_greedy_one(data, n):
    k = data.draw(st.integers(0, n - 1))
    found = np.array([data.draw(st.permutations(range(n)))[:k] for _ in range(n)], np.int64).reshape(n, k)
    alike = np.array(data.draw(st.lists(EIGHTH, min_size=n * k, max_size=n * k)), np.float32).reshape(n, k)
    weights = np.array(data.draw(st.lists(EIGHTH, min_size=n, max_size=n)))
    ties = np.array(data.draw(st.permutations(range(n))), np.uint64)
    number = data.draw(st.integers(0, n))
    likeness = np.eye(n)
    for row in range(n):
        for other, value in zip(found[row], alike[row], strict=True):
            likeness[row, other] = likeness[other, row] = max(likeness[row, other], value)
    kept = Neighbours(found, alike).cover(weights, number, ties=ties, given=np.zeros(n, bool))
    assert set(np.flatnonzero(kept).tolist()) == references.facility_location(likeness, weights, number, ties.tolist())


def test_what_is_given_covers_its_neighbours_already():
    pairs = Neighbours(np.array([[1], [0], [3], [2]]), np.ones((4, 1), np.float32))
    kept = pairs.cover(np.ones(4), 1, ties=np.arange(4, dtype=np.uint64), given=np.array([True, False, False, False]))
    assert kept.tolist() == [True, False, True, False]
