"""Bitmaps of rows agree with boolean arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.kernels import bits
from adaptive_sampler.kernels.runs import Runs, occupied
from tests.references import pack

SIZES = [0, 1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 129, 1000, 20_000]


def kept(n: int, share: float) -> np.ndarray:
    return np.random.default_rng(n).random(n) < share


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", [0, 0.003, 0.5, 1])
class TestBitmap:
    def test_count_and_rows_are_those_of_the_mask(self, n, share):
        mask = kept(n, share)
        assert bits.count(pack(mask)) == mask.sum()
        rows = bits.rows(pack(mask), n)
        assert rows.dtype == np.int64
        np.testing.assert_array_equal(rows, np.flatnonzero(mask))

    @pytest.mark.parametrize("of_all", [True, False])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", "float32"])
    def test_a_part_of_values_is_that_of_its_rows(self, n, share, dtype, of_all):
        rng = np.random.default_rng(n)
        own = np.ones(n, bool) if of_all else rng.random(n) < 0.7
        some = own & (rng.random(n) < share)
        values = rng.integers(0, 200, np.count_nonzero(own)).astype(dtype)
        found = bits.part(values, None if of_all else pack(own), pack(some))
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values[some[own]])

    def test_narrow_rows_are_int32_and_start_where_told(self, n, share):
        mask = kept(n, share)
        rows = bits.narrow_rows(pack(mask), n, first=5)
        assert rows.dtype == np.int32
        np.testing.assert_array_equal(rows, np.flatnonzero(mask) + 5)

    def test_select_and_rank_invert_each_other(self, n, share):
        mask = kept(n, share)
        index = bits.Index(pack(mask), n)
        rows = np.flatnonzero(mask)
        np.testing.assert_array_equal(index.select(np.arange(len(rows))), rows)
        np.testing.assert_array_equal(index.rank(np.arange(n)), np.cumsum(mask) - mask)

    def test_membership_is_the_mask(self, n, share):
        mask = kept(n, share)
        np.testing.assert_array_equal(bits.test(pack(mask), np.arange(n)), mask)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_counts_become_the_rows_that_have_one_and_how_many_each(n, dtype, share):
    rng = np.random.default_rng(n)
    counts = np.where(rng.random(n) < share, rng.integers(1, np.iinfo(dtype).max, n, endpoint=True), 0).astype(dtype)
    expected = counts.copy()
    packed, repeats = occupied(counts)
    np.testing.assert_array_equal(packed, pack(expected > 0))
    np.testing.assert_array_equal(repeats, expected[expected > 0], strict=True)


def test_select_finds_rows_in_clusters_far_apart():
    mask = np.zeros(100_000, bool)
    mask[[0, 3, 40_000, 99_999]] = True
    mask[70_000:70_700] = True
    rows = np.flatnonzero(mask)
    np.testing.assert_array_equal(bits.Index(pack(mask), len(mask)).select(np.arange(len(rows))), rows)


def test_a_bitmap_may_be_read_only_and_unaligned():
    mask = kept(1000, 0.5)
    whole = np.concatenate([[0], pack(mask)]).astype(np.uint8)
    whole.flags.writeable = False
    np.testing.assert_array_equal(bits.rows(whole[1:], 1000), np.flatnonzero(mask))


def test_the_index_costs_a_twentieth_of_a_byte_a_row_at_most():
    n = 1 << 20
    assert bits.Index(np.full(n // 8, 255, np.uint8), n).nbytes <= 0.05 * n


def test_row_arrays_are_int64_only_where_int32_does_not_reach():
    assert bits.row_dtype(2**31 - 1) is np.int32
    assert bits.row_dtype(2**31) is np.int64


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 1000), max_size=300), st.sampled_from([np.uint16, np.uint32, np.int64]))
def test_an_occurrence_belongs_to_the_entry_that_repeat_puts_there(repeats, dtype):
    runs = Runs(np.array(repeats, dtype))
    entries = np.repeat(np.arange(len(repeats)), repeats)
    assert runs.total == len(entries)
    np.testing.assert_array_equal(runs.locate(np.arange(len(entries))), entries)


@given(n=st.integers(1, 70), data=st.data())
def test_the_first_row_that_is_outside_or_comes_again_ends_the_marks(n, data):
    batches = data.draw(st.lists(st.lists(st.integers(-1, n), max_size=20), max_size=3))
    marked, seen = np.zeros(-(-n // 8), np.uint8), set()
    for batch in batches:
        twin = next((i for i, row in enumerate(batch) if not 0 <= row < n or row in seen | {*batch[:i]}), -1)
        assert bits.mark(marked, n, np.array(batch, np.int64)) == twin
        seen |= {*batch[: len(batch) if twin < 0 else twin]}
        assert np.flatnonzero(np.unpackbits(marked, bitorder="little")).tolist() == sorted(seen)


@given(n=st.integers(1, 70), data=st.data())
def test_the_first_row_outside_is_one_beyond_the_range_if_there_is_any_and_else_one_that_is_not_set(n, data):
    mask = np.array(data.draw(st.none() | st.lists(st.booleans(), min_size=n, max_size=n)) or [True] * n)
    rows = data.draw(st.lists(st.integers(-1, n), max_size=20))
    beyond = [i for i, row in enumerate(rows) if not 0 <= row < n]
    twin = next(iter(beyond or [i for i, row in enumerate(rows) if not mask[row]]), -1)
    kept = pack(mask)
    kept.setflags(write=False)
    assert bits.first_outside(None if mask.all() else kept, n, np.array(rows, np.int64)) == twin
