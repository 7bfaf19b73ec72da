"""What kernels ask of the processor directly is what Python says one element at a time."""

import operator
import sys

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive_sampler.kernels import llvm, plain
from adaptive_sampler.kernels.jit import Intrinsic, Kernel
from tests.references.kernels import numbered, upper

COMPARISONS = {
    "below": operator.lt,
    "above": operator.gt,
    "equal": operator.eq,
    "at_least": operator.ge,
    "at_most": operator.le,
}
FLOATS = st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 1e-45]) | st.floats(width=32)
WORDS = st.integers(0, 2**64 - 1)


def compiled(name):
    called = getattr(llvm, name)
    return numba.njit(lambda *arguments: called(*arguments))


COMPILED = {
    name: compiled(name)
    for name in (*COMPARISONS, "popcount", "lowest", "larger", "multiply_add", "highest", "add", "add_product")
}


@numba.njit
def hashed(word, out):
    llvm.lowbias32(word, out)


@pytest.mark.parametrize("name", COMPARISONS)
@given(block=arrays(np.float32, 70, elements=FLOATS), bound=FLOATS)
def test_a_bit_says_how_a_float_stands_to_the_bound(name, block, bound):
    expected = COMPARISONS[name](block[:64], np.float32(bound))
    found = COMPILED[name](block, np.float32(bound))
    assert [bool(found >> i & 1) for i in range(64)] == expected.tolist()


@pytest.mark.parametrize("name", COMPARISONS)
@given(block=arrays(np.uint32, 64), bound=st.integers(0, 2**32 - 1))
def test_a_bit_says_how_an_unsigned_number_stands_to_the_bound(name, block, bound):
    expected = COMPARISONS[name](block, np.uint32(bound))
    found = COMPILED[name](block, np.uint32(bound))
    assert [bool(found >> i & 1) for i in range(64)] == expected.tolist()


@given(word=WORDS)
def test_bits_are_counted_and_the_lowest_is_found(word):
    assert COMPILED["popcount"](np.uint64(word)) == word.bit_count()
    if word:
        assert COMPILED["lowest"](np.uint64(word)) == (word & -word).bit_length() - 1


@given(start=WORDS, row=st.integers(0, 10**12))
def test_64_hashes_at_once_are_those_of_their_rows(start, row):
    lanes = np.empty(64, np.uint32)
    hashed(np.uint64(numbered(start, row >> 6)), lanes)
    assert lanes[row & 63] == upper(start, row)


@given(a=FLOATS, b=FLOATS)
def test_the_larger_of_two_is_the_second_where_one_is_no_number(a, b):
    a, b = np.float32(a), np.float32(b)
    np.testing.assert_array_equal(COMPILED["larger"](a, b), a if a > b else b)


@given(a=FLOATS, b=FLOATS)
def test_the_highest_of_two_is_no_number_where_one_is_none(a, b):
    a, b = np.float32(a), np.float32(b)
    for spelling in (COMPILED["highest"], plain.highest):
        np.testing.assert_equal(spelling(a, b), np.maximum(a, b))


@given(total=FLOATS, a=FLOATS, b=FLOATS)
def test_a_sum_in_any_order_keeps_what_is_no_number_and_what_is_infinite(total, a, b):
    total, a, b = np.float32(total), np.float32(a), np.float32(b)
    with np.errstate(all="ignore"):
        for spelling in (COMPILED["add"], plain.add):
            np.testing.assert_equal(spelling(total, a), total + a)
        once, twice = np.float32(np.float64(a) * np.float64(b) + np.float64(total)), total + a * b
    for spelling in (COMPILED["add_product"], plain.add_product):
        found = spelling(total, a, b)
        assert np.isnan(found) == np.isnan(once) or np.isnan(twice)
        assert np.isnan(found) or found in (once, twice, np.nextafter(once, np.float32(0)), np.nextafter(once, total))


@given(a=st.floats(-1e9, 1e9, width=32), b=st.floats(-1e9, 1e9, width=32), c=st.floats(-1e9, 1e9, width=32))
def test_a_product_and_a_sum_are_rounded_once_or_twice(a, b, c):
    a, b, c = np.float32(a), np.float32(b), np.float32(c)
    once, twice = np.float32(np.float64(a) * np.float64(b) + np.float64(c)), np.float32(a * b) + c
    assert COMPILED["multiply_add"](a, b, c) in (
        once,
        np.nextafter(once, np.float32(0)),
        np.nextafter(once, a + b + c),
        twice,
    )


@numba.njit
def sum_of_slices(rows):
    llvm.wide()
    rows, total = llvm.lent(rows), 0.0
    for i in range(len(rows)):
        total += rows[i][1:].sum()
    return total


def test_an_array_that_is_lent_is_read_as_ever_and_held_as_often_as_before():
    rows = np.arange(12.0).reshape(4, 3)
    held = sys.getrefcount(rows)
    assert sum_of_slices(rows) == rows[:, 1:].sum()
    assert sys.getrefcount(rows) == held
    assert plain.lent(rows) is rows or np.shares_memory(plain.lent(rows), rows)
    plain.wide()


@numba.njit
def widened(values, total):
    llvm.wide()
    for i in range(values.size):
        total[i] += values[i]


def test_loops_of_a_kernel_may_be_asked_for_the_widest_lanes():
    widened(np.ones(64, np.float32), np.zeros(64, np.float32))
    assert all('"prefer-vector-width"="512"' in code for code in widened.inspect_llvm().values())


@numba.njit
def transposed(rows, i, j, columns):
    llvm.transpose(rows, i, j, columns)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spelling", [transposed, plain.transpose], ids=["instruction", "twin"])
@pytest.mark.parametrize(("i", "j"), [(0, 0), (3, 5)])
def test_a_square_is_transposed_and_nothing_beside_it_is_written(spelling, dtype, i, j):
    rows, columns = np.arange(11 * 14, dtype=dtype).reshape(11, 14), np.full((15, 12), -1, dtype)
    expected = columns.copy()
    expected[j : j + 8, i : i + 8] = rows[i : i + 8, j : j + 8].T
    spelling(rows, i, j, columns)
    np.testing.assert_array_equal(columns, expected)


def test_called_from_python_they_say_that_only_a_kernel_can():
    with pytest.raises(TypeError, match="below is an instruction of LLVM's: only a kernel can call it"):
        llvm.below(np.zeros(64, np.float32), np.float32(0))


def test_called_from_python_they_name_the_setting_that_turns_compiling_off():
    with pytest.raises(TypeError, match=r"only a compiled one. Where NUMBA_DISABLE_JIT=1 is set.*unset it"):
        llvm.popcount(np.uint64(1))


def test_neighbours_hashes_do_not_depend_on_one_another():
    lanes = np.empty((1 << 14, 64), np.uint32)
    for i, some in enumerate(lanes):
        hashed(np.uint64(numbered(1, i)), some)
    correlations = np.corrcoef(lanes.T / 2**32)[np.triu_indices(64, 1)]
    assert np.abs(correlations).max() < 5.5 / np.sqrt(len(lanes))


def test_each_instruction_has_a_twin_of_its_name_for_a_numba_that_cannot_ask_for_it():
    instructions, twins = (
        {name for name, value in vars(module).items() if isinstance(value, kind)}
        for module, kind in ((llvm, Intrinsic), (plain, Kernel))
    )
    assert instructions == twins


@pytest.mark.parametrize("name", COMPARISONS)
@given(block=arrays(np.float32, 64, elements=FLOATS), bound=FLOATS)
def test_a_comparisons_twin_says_the_same_of_floats(name, block, bound):
    assert getattr(plain, name)(block, np.float32(bound)) == COMPILED[name](block, np.float32(bound))


@pytest.mark.parametrize("name", COMPARISONS)
@given(block=arrays(np.uint32, 64), bound=st.integers(0, 2**32 - 1))
def test_a_comparisons_twin_says_the_same_of_unsigned_numbers(name, block, bound):
    assert getattr(plain, name)(block, np.uint32(bound)) == COMPILED[name](block, np.uint32(bound))


@given(word=WORDS)
def test_the_twins_count_and_find_the_same_bits(word):
    assert plain.popcount(np.uint64(word)) == word.bit_count()
    if word:
        assert plain.lowest(np.uint64(word)) == COMPILED["lowest"](np.uint64(word))


@given(word=WORDS)
def test_the_twin_writes_the_same_hashes(word):
    lanes, others = np.empty(64, np.uint32), np.empty(64, np.uint32)
    hashed(np.uint64(word), lanes)
    plain.lowbias32(np.uint64(word), others)
    np.testing.assert_array_equal(lanes, others)


REREAD = [
    ("float32_of", np.uint32, np.float32),
    ("float64_of", np.uint64, np.float64),
    ("bits_of_float32", np.float32, np.uint32),
    ("bits_of_float64", np.float64, np.uint64),
]


@pytest.mark.parametrize(("name", "given_as", "read_as"), REREAD)
@pytest.mark.parametrize("spelling", [compiled, lambda name: getattr(plain, name)], ids=["instruction", "twin"])
def test_bits_are_read_as_a_float_and_back(spelling, name, given_as, read_as):
    values = np.array([0, 1, 2**31 - 5, 3_000_000_001]).astype(given_as)
    reread = spelling(name)
    np.testing.assert_array_equal([reread(value) for value in values], values.view(read_as))  # a NaN is like another
