"""Strata hold the scores that lie between their edges, and give up the rows with the smallest hashes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.kernels.identity import RowIdentity
from adaptive_sampler.kernels.strata import Strata
from tests import references

SCORE = st.one_of(
    st.sampled_from([np.nan, -np.inf, np.inf, 0.0, -0.0]), st.integers(-20, 20), st.floats(-1, 1, width=32)
)
SCORES = st.lists(SCORE, min_size=1, max_size=150)


def made(scores, strata, *, bounds=None, salt=3, hidden=None):
    scores = np.asarray(scores, np.float32)
    bounds = np.array([0, len(scores)] if bounds is None else bounds)
    return Strata(scores, bounds, strata, salt=salt, identity=RowIdentity(len(scores)), hidden=hidden)


@settings(max_examples=60)
@given(scores=SCORES, strata=st.integers(1, 60))
def test_each_stratum_has_the_scores_between_its_edges(scores, strata):
    scores = np.float32(scores).tolist()
    expected = [len(rows) for rows in references.strata(scores, strata)]
    assert made(scores, strata).counts.tolist() == [expected]


@settings(max_examples=60)
@given(scores=SCORES, strata=st.integers(1, 9), data=st.data())
def test_the_rows_of_a_stratum_that_are_taken_have_the_smallest_hashes(scores, strata, data):
    scores = np.float32(scores).tolist()
    rows = references.strata(scores, strata)
    numbers = [data.draw(st.integers(0, len(some))) for some in rows]
    found = np.unpackbits(made(scores, strata).some(np.array([numbers])), count=len(scores), bitorder="little")
    start = references.mix(3 + 0x5E1EC7)
    expected = set()
    for some, number in zip(rows, numbers, strict=True):
        expected |= set(sorted(some, key=lambda row: references.tie(start, row))[:number])
    assert set(np.flatnonzero(found).tolist()) == expected


@settings(max_examples=30)
@given(data=st.data(), strata=st.integers(1, 5))
def test_the_strata_of_a_group_are_those_of_its_rows_alone(data, strata):
    groups = data.draw(st.lists(SCORES, min_size=1, max_size=4))
    ends = np.cumsum([0] + [len(scores) for scores in groups])
    alone = [made(scores, strata).counts[0].tolist() for scores in groups]
    assert made(np.concatenate(groups), strata, bounds=ends).counts.tolist() == alone


@settings(max_examples=40)
@given(data=st.data(), strata=st.integers(1, 5))
def test_hidden_rows_count_as_rows_without_a_score(data, strata):
    groups = data.draw(st.lists(SCORES, min_size=1, max_size=4))
    scores, ends = np.float32(np.concatenate(groups)), np.cumsum([0] + [len(some) for some in groups])
    hidden = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    found = made(scores, strata, bounds=ends, hidden=np.packbits(hidden, bitorder="little"))
    expected = made(np.where(hidden, np.nan, scores), strata, bounds=ends)
    assert found.counts.tolist() == expected.counts.tolist()
    assert found.some(found.counts // 2).tolist() == expected.some(found.counts // 2).tolist()


@pytest.mark.parametrize("n", [1, 63, 64, 65, 5000, 40_000])
@pytest.mark.parametrize("strata", [1, 7, 1000])
def test_as_many_rows_are_taken_as_are_wanted_whatever_the_sizes(n, strata):
    found = made(np.random.default_rng(n).gamma(2, size=n), strata)
    numbers = (found.counts * 0.4).astype(np.int64) + (found.counts > 0)
    kept = np.unpackbits(found.some(numbers), bitorder="little")
    assert kept.sum() == numbers.sum()
    assert not kept[n:].any()
