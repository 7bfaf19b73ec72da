"""Ranks within many groups at once are those of each group by itself."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.kernels import grouped, select
from adaptive_sampler.kernels.identity import KeyIdentity, RowIdentity
from tests import references

SCORES = st.sampled_from([np.nan, -np.inf, -1.0, -0.0, 0.0, 1.5, np.inf])
LINES = st.lists(st.tuples(st.integers(0, 4), SCORES, st.integers(0, 3)), min_size=1, max_size=60)
ties_ = pytest.mark.parametrize("ties", ["random", "row"])


def parted(lines):
    """(scores, sizes, bounds, names), one group behind the other."""
    codes = np.array([code for code, _, _ in lines], np.uint8)
    scores, sizes = (np.array([line[i] for line in lines]) for i in (1, 2))
    places, bounds = grouped.by_group(codes, 5)
    assert sorted(places.tolist()) == list(range(len(lines)))
    assert codes[places].tolist() == sorted(codes.tolist())
    return scores[places].astype(np.float32), sizes[places], bounds, RowIdentity(len(lines)).part(places)


@given(codes=st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_values_are_collected_behind_those_of_their_group_and_spread_again(codes):
    codes = np.array(codes, np.uint32)
    places, _ = grouped.by_group(codes, 5)
    starts = np.searchsorted(np.sort(codes), np.arange(5))
    values, collected, again = np.arange(len(codes)) * 7.0, np.zeros(len(codes)), np.zeros(len(codes))
    grouped.collect(codes, starts.copy(), values, collected)
    assert collected.tolist() == values[places].tolist()
    grouped.spread(codes, starts.copy(), collected, again)
    assert again.tolist() == values.tolist()


def each(bounds, names):
    """(slice, names) of each group."""
    for start, stop in itertools.pairwise(bounds):
        yield slice(start, stop), names.part(np.arange(start, stop))


@ties_
@settings(max_examples=50)
@given(lines=LINES, data=st.data())
def test_a_window_of_each_group_is_that_of_its_rows_alone(ties, lines, data):
    scores, _, bounds, names = parted(lines)
    ends = [sorted(data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))) for _ in bounds[1:]]
    lo, hi = np.array(ends).T
    packed = grouped.rank_windows(scores, bounds, lo, hi, salt=3, ties=ties, identity=names)
    found = np.unpackbits(packed, count=len(scores), bitorder="little")
    for (rows, own), low, high in zip(each(bounds, names), lo, hi, strict=True):
        alone = select.rank_window(scores[rows], low, high, salt=3, ties=ties, identity=own)
        assert np.unpackbits(alone, count=len(own), bitorder="little").tolist() == found[rows].tolist()


def broken(names, salt, ties):
    """The rows in the order in which ties are broken."""
    rows = np.arange(len(names))
    return rows if ties == "row" else names.ordered(select.premix(salt), rows)


@ties_
@settings(max_examples=50)
@given(lines=LINES, data=st.data())
def test_the_rank_at_a_unit_of_each_group_is_that_of_its_rows_alone(ties, lines, data):
    scores, sizes, bounds, names = parted(lines)
    units = np.array([data.draw(st.integers(0, 20)) for _ in bounds[1:]])
    found = grouped.ranks_at(scores, sizes, bounds, units, salt=3, ties=ties, identity=names)
    alone = [
        references.rank_at(scores[rows], sizes[rows], unit, broken(own, 3, ties))
        for (rows, own), unit in zip(each(bounds, names), units.tolist(), strict=True)
    ]
    assert found.tolist() == alone


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1, 1], [3, 0, 2, 0, 1, 0]])
def test_rows_whose_hashes_are_equal_are_cut_by_their_names(sizes):
    sizes, bounds, scores = np.array(sizes), np.array([0, 6]), np.zeros(6, np.float32)
    text = np.frombuffer("\0".join("fbdace").encode() + b"\0", np.uint8)
    names = KeyIdentity(np.zeros(6, np.uint64), text, np.arange(1, 12, 2))
    for unit in range(7):
        told = {"salt": 0, "ties": "random", "identity": names}
        rank = grouped.ranks_at(scores, sizes, bounds, np.array([unit]), **told)
        assert rank == references.rank_at(scores, sizes, unit, broken(names, 0, "random"))
        packed = grouped.rank_windows(scores, bounds, np.array([1]), np.array([unit]) | 1, **told)
        assert packed.tolist() == select.rank_window(scores, 1, unit | 1, **told).tolist()
