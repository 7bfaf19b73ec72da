"""A row's random bits are those of its name: its key, or its number, wherever it stands."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptive_sampler.kernels.identity import Identity, KeyIdentity, RowIdentity, key_hashes, upper_halves
from tests import references

STARTS = st.integers(0, 2**64 - 1)
NAMES = st.one_of(
    st.lists(st.text(max_size=6), unique=True, max_size=130),
    st.lists(st.integers(0, 2**63 - 1), unique=True, max_size=130),
    st.integers(0, 130).map(lambda n: list(range(n))),
)


def packed(keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """As a map of keys holds them."""
    texts = [key.encode() for key in keys]
    text = np.frombuffer(b"".join(text + b"\0" for text in texts), np.uint8)
    return text, np.cumsum([len(text) + 1 for text in texts], dtype=np.int64) - 1


def named(names: list[int] | list[str]) -> Identity:
    """The identity of rows with these names."""
    if names and isinstance(names[0], str):
        text, ends = packed(names)
        return KeyIdentity(key_hashes(text, ends), text, ends)
    whole = names == list(range(len(names)))
    return RowIdentity(len(names), None if whole else np.array(names, np.int64))


@settings(max_examples=50, deadline=None)
@given(NAMES, STARTS)
@example([2**63 - 1], 2**64 - 1)
@example(["", "a"], 0)
def test_the_hash_of_a_row_is_that_of_its_name(names, start):
    found = named(names).hashes(np.uint64(start))
    assert found.tolist() == [references.seeded(start, name) for name in names]


@settings(max_examples=50, deadline=None)
@given(NAMES.filter(bool), STARTS, st.data())
def test_the_hashes_of_some_places_are_theirs_among_those_of_all(names, start, data):
    places = np.array(data.draw(st.lists(st.integers(0, len(names) - 1))), np.int64)
    identity = named(names)
    np.testing.assert_array_equal(identity.hashes(np.uint64(start), places), identity.hashes(np.uint64(start))[places])


@settings(max_examples=50, deadline=None)
@given(NAMES, STARTS)
def test_64_neighbours_find_the_upper_halves_of_their_hashes_at_once(names, start):
    for first in range(0, len(names), 64):
        out = np.zeros(64, np.uint32)
        upper_halves(np.uint64(start), *named(names).names, first, out)
        expected = [references.seeded(start, name) >> 32 for name in names[first : first + 64]]
        assert out[: len(expected)].tolist() == expected


@settings(max_examples=50, deadline=None)
@given(NAMES.filter(bool), STARTS, st.data())
def test_a_part_has_the_names_of_its_places(names, start, data):
    places = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1))
    again = data.draw(st.lists(st.integers(0, len(places) - 1)))
    part = named(names).part(np.array(places, np.int64)).part(np.array(again, np.int64))
    expected = [references.seeded(start, names[places[place]]) for place in again]
    assert len(part) == len(again)
    assert part.hashes(np.uint64(start)).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(NAMES.filter(bool), STARTS, st.data())
def test_rows_are_ordered_by_their_hashes(names, start, data):
    places = data.draw(st.lists(st.integers(0, len(names) - 1)))
    expected = sorted(places, key=lambda place: references.tie(start, names[place]))
    assert named(names).ordered(np.uint64(start), np.array(places, np.int64)).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab\0é", max_size=4), unique=True, min_size=1), st.data())
@example(["ab", "a", "", "abc", "b"], None)
def test_keys_of_equal_hash_are_ordered_by_their_bytes(keys, data):
    equal = [0] * len(keys)
    hashes = equal if data is None else data.draw(st.permutations(equal + [1] * len(keys)))[: len(keys)]
    identity = KeyIdentity(np.array(hashes, np.uint64), *packed(keys))
    expected = sorted(range(len(keys)), key=lambda row: (references.numbered(5, hashes[row]), keys[row].encode()))
    assert identity.ordered(np.uint64(5), np.arange(len(keys))).tolist() == expected
    back = identity.part(np.arange(len(keys))[::-1].copy())
    assert back.ordered(np.uint64(5), np.arange(len(keys))).tolist() == [len(keys) - 1 - row for row in expected]


@pytest.mark.parametrize("identity", [RowIdentity(0), KeyIdentity(np.empty(0, np.uint64), *packed([]))])
def test_of_no_rows_there_are_no_hashes(identity):
    assert len(identity) == len(identity.hashes(np.uint64(1))) == 0
    assert identity.ordered(np.uint64(1), np.empty(0, np.int64)).shape == (0,)


def test_hashes_are_the_same_on_every_platform():
    keyed, numbered = (identity.hashes(np.uint64(9)) for identity in (named(["a", "image-7"]), RowIdentity(66)))
    assert keyed.tolist() == [0x9671AE8278268795, 0x822644DB7FB13E3C]
    assert numbered[[0, 65]].tolist() == [0x380E5C126A6BC399, 0x5356A23EAA9DF8A5]
