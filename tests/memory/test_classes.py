"""The classes of rows are what was noted of them, counted exactly, in as few bytes as they need."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.memory import classes as module
from adaptive_sampler.memory.classes import Classes


class Asking:
    """Somebody who wants classes."""


@given(
    data=st.data(),
    n=st.integers(1, 60),
    highest=st.sampled_from([2, 254, 255, 256, 65_534, 65_535]),
    at_once=st.sampled_from([8, 16, 1 << 18]),
)
def test_counts_are_those_of_a_dictionary(data, n, highest, at_once):
    found, twin = Classes(), {}
    for _ in range(3):
        rows = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
        labels = np.array([(row * 7919) % (highest + 1) for row in rows])  # a row has one label
        labels[rows == 0] = -1
        found.note(rows, labels, n)
        twin |= {row: label for row, label in zip(rows.tolist(), labels.tolist(), strict=True) if label >= 0}
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE", at_once)
        seen, stay = found.counts(np.packbits(kept, bitorder="little"))
    labels = np.array([*twin.values()], int)
    rows = np.array([*twin], int)
    assert seen.tolist() == np.bincount(labels, minlength=len(seen)).tolist()
    assert stay.tolist() == np.bincount(labels[kept[rows]], minlength=len(seen)).tolist()


@pytest.mark.parametrize(("label", "size"), [(0, 1), (254, 1), (255, 2), (65_534, 2), (65_535, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_row_takes_no_more_bytes_than_the_labels_need(label, size, dtype):
    found = Classes()
    found.note(np.array([0]), np.array([1], dtype), 8)
    if label <= np.iinfo(dtype).max:
        found.note(np.array([1]), np.array([label], dtype), 8)
        assert found.counts(np.array([255], np.uint8))[0][[1, label]].tolist() == [1, 1]
        assert found._labels.itemsize == size


def test_a_label_beyond_a_million_is_no_class():
    found = Classes()
    found.note(np.arange(2), np.array([1 << 20, 3]), 2)
    assert found.counts(np.array([255], np.uint8))[0].tolist() == [0, 0, 0, 1]


def test_labels_are_wanted_while_somebody_asks_and_some_row_has_none():
    found, one, other = Classes(), Asking(), Asking()
    assert not found.wanted
    found.wanted_by |= {one, other}
    found.note(np.array([0]), np.array([1]), 2)
    assert found.wanted
    found.note(np.array([1]), np.array([1]), 2)
    assert not found.wanted
    found.note(np.array([1]), np.array([1]), 3)  # the store has grown
    assert found.wanted
    found.release(one)
    assert found.counts(np.array([255], np.uint8))[0].tolist() == [0, 2]
    found.release(other)
    assert len(found.counts(np.array([255], np.uint8))[0]) == 0


def test_somebody_who_is_gone_asks_no_more():
    found, one = Classes(), Asking()
    found.wanted_by.add(one)
    del one
    assert not found.wanted
