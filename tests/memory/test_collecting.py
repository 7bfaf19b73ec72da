"""Keys and columns that come some lines at a time are those that come at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.memory import user_column
from adaptive_sampler.memory.collecting import CollectedColumn, CollectedKeys
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.memory.user_values import made, of_texts

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
TEXTS = st.lists(TEXT, min_size=1, max_size=12)


def in_parts(n, parts):
    """A column of `n` rows from (rows, part of the column)."""
    column = CollectedColumn(n)
    for rows, part in parts:
        column.put(rows, part)
    return column.whole()


@given(texts=TEXTS, data=st.data())
def test_texts_are_the_same_in_whatever_parts_and_order_they_came(texts, data):
    order = np.array(data.draw(st.permutations(range(len(texts)))))
    cuts = sorted(data.draw(st.lists(st.integers(1, len(texts)), max_size=3)))
    parts = [rows for rows in np.split(order, cuts) if len(rows)]
    found = in_parts(len(texts), [(rows, of_texts([texts[row] for row in rows])) for rows in parts])
    assert found.same(of_texts(texts))


@given(texts=TEXTS, data=st.data())
def test_the_texts_of_some_rows_are_a_column_too(texts, data):
    order = data.draw(st.permutations(range(len(texts))))
    assert of_texts(texts).at(np.array(order)).same(of_texts([texts[i] for i in order]))


def test_texts_that_become_more_than_a_byte_tells_get_wider_codes():
    texts = [str(i) for i in range(300)]
    found = in_parts(
        300, [(slice(first, first + 100), of_texts(texts[first : first + 100])) for first in (0, 100, 200)]
    )
    assert found.same(of_texts(texts))
    assert found.values.dtype == np.uint16


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float16"])
def test_numbers_keep_their_dtype_in_any_order(kind):
    values = np.array([1, 0, 1, 1], kind)
    found = in_parts(4, [(rows, made("x", values[rows], 2)) for rows in (np.array([3, 0]), np.array([1, 2]))])
    assert found.same(made("x", values, 4))


def test_codes_in_any_order_make_the_same_column_as_their_texts():
    column = UserColumn.of_codes(np.array([3, 1, 3]), KeyMap.of("abcd"))
    assert column.same(of_texts(["d", "b", "d"]))


def test_codes_come_in_the_order_in_which_rows_have_them_past_a_block_of_rows(monkeypatch):
    monkeypatch.setattr(user_column, "_AT_ONCE", 2)
    texts = [*"cabcabddc"]
    assert UserColumn.of_codes(np.array(["abcd".index(t) for t in texts]), KeyMap.of("abcd")).same(of_texts(texts))


@given(parts=st.lists(TEXTS, min_size=1, max_size=4))
def test_keys_that_came_in_parts_are_those_of_all_lines(parts):
    keys = [f"{key} {i}" for i, key in enumerate(key for part in parts for key in part)]
    found, first = CollectedKeys(len(keys)), 0
    for part in parts:
        found.add(KeyMap.of(keys[first : first + len(part)]))
        first += len(part)
    assert found.whole().texts() == keys
    assert found.whole().rows(keys).tolist() == [*range(len(keys))]


@given(keys=st.lists(TEXT, min_size=1, max_size=12, unique=True), data=st.data())
def test_keys_at_some_rows_come_in_their_order(keys, data):
    rows = data.draw(st.lists(st.integers(0, len(keys) - 1), max_size=8))
    found = KeyMap.of(keys).at(np.array(rows, np.int64))
    assert found.texts() == [keys[row] for row in rows]
