"""Keys: names of rows that stay when positions move."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError, UnknownName
from adaptive_sampler.kernels import keys as kernels
from adaptive_sampler.memory.keys import HashIndex, KeyMap
from adaptive_sampler.scoring import Loss

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(texts, unique=True, min_size=1), st.data())
def test_every_key_is_found_at_its_row(keys: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(keys) - 1)))
    found = KeyMap.of(keys).rows([keys[row] for row in rows])
    assert found.dtype == np.int64
    assert found.tolist() == rows


@given(st.lists(texts, unique=True, min_size=1))
def test_a_row_tells_its_key(keys: list[str]) -> None:
    made = KeyMap.of(keys)
    assert [made.key(row) for row in range(len(keys))] == keys


@given(
    hashes=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5) | st.just(2**64 - 1), max_size=40),
    kind=st.sampled_from([np.int32, np.int64]),
)
def test_the_table_of_hashes_is_sorted_as_numpy_sorts_it(hashes: list[int], kind: type) -> None:
    given_ = np.array(hashes, np.uint64)
    bits = max(len(hashes).bit_length() - 2, 0)
    sorted_, order, borders = np.empty_like(given_), np.empty(len(hashes), kind), np.zeros(2**bits + 1, kind)
    kernels.index(given_, np.uint64(63 - bits), sorted_, order, borders)
    twin = np.argsort(given_, kind="stable")
    assert order.tolist() == twin.tolist()
    assert sorted_.tolist() == given_[twin].tolist()
    leading = [hashed >> 64 - bits for hashed in given_[twin].tolist()]
    assert borders.tolist() == [sum(1 for each in leading if each < bucket) for bucket in range(2**bits + 1)]


def test_looking_keys_up_holds_fourteen_bytes_a_key() -> None:
    assert 12 < KeyMap.of([str(i) for i in range(10_000)]).nbytes / 10_000 <= 14


def test_planning_by_keys_holds_eight_bytes_a_key_more() -> None:
    keys = KeyMap.of([str(i) for i in range(10_000)])
    before = keys.nbytes
    assert len(keys.identity) == 10_000
    assert keys.nbytes == before + 80_000


@given(st.lists(texts, unique=True, min_size=2))
def test_an_unknown_key_is_named(keys: list[str]) -> None:
    with pytest.raises(UnknownName) as error:
        KeyMap.of(keys[1:]).rows([keys[1], keys[0]])
    assert f"key {keys[0]!r} (position 1) is not in the store" in str(error.value)


def test_keys_that_may_be_unknown_have_places() -> None:
    assert KeyMap.of(["a", "b"]).places(["b", "x", "b", ""]).tolist() == [1, -1, 1, -1]
    assert KeyMap.of(["a", "b"]).places([]).tolist() == []


def test_a_key_that_comes_twice_is_named_with_its_rows() -> None:
    with pytest.raises(InvalidValue, match=r"key 'b' stands at rows 1 and 3"):
        KeyMap.of(["a", "b", "c", "b", "c"])


@given(st.lists(st.sampled_from(["", "a", "b", "aa", "\0"]), min_size=1))
def test_of_keys_that_come_twice_the_one_that_does_so_first_is_named(keys: list[str]) -> None:
    again = next((row for row, key in enumerate(keys) if key in keys[:row]), None)
    if again is None:
        assert KeyMap.of(keys).twice() is None
        return
    with pytest.raises(InvalidValue, match=rf"stands at rows {keys.index(keys[again])} and {again}:"):
        KeyMap.of(keys)


def test_labels_instead_of_keys_are_refused_without_comparing_each_with_each() -> None:
    with pytest.raises(InvalidValue, match=r"key 'cat' stands at rows 0 and 2"):  # else this takes hours
        KeyMap.of(["cat", "dog"] * 500_000)


@pytest.mark.parametrize("bad", [7, None, b"bytes", "\ud800"])
def test_a_key_that_is_no_text_is_named(bad: object) -> None:
    with pytest.raises(InvalidValue, match="is no text"):
        KeyMap.of(["a", bad])  # type: ignore[list-item]


def test_strings_of_equal_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made = KeyMap.of(["a", "b", "c", "d"])
    same = np.full(4, 5, np.uint64)
    made._index = HashIndex(same, np.arange(4, dtype=np.int32), np.array([0, 4], np.int32))
    text, ends = np.frombuffer(b"c\0a\0x\0", np.uint8), np.array([1, 3, 5])
    found = kernels.find(np.full(3, 5, np.uint64), text, ends, *made._index, *made.arrays().values())
    assert found.tolist() == [2, 0, -1]


def test_a_stores_keys_come_back(tmp_path: Path) -> None:
    names = [f"shard-{i:03d}/größe {i}" for i in range(500)]
    ScoreStore.create(tmp_path / "s", 500, [Loss()], keys=names).close()
    store = ScoreStore.open(tmp_path / "s", mode="r")
    assert store.rows([names[7], names[499], names[0]]).tolist() == [7, 499, 0]
    assert store.key(3) == names[3]


def test_grow_appends_rows_and_keys(tmp_path: Path) -> None:
    with ScoreStore.create(tmp_path / "s", 2, [Loss()], keys=["a", "b"]) as store:
        store.fold("loss", store.rows(["b"]), [5.0])
        store.commit()
        store.grow(4, keys=["c", "d"])
        store.fold("loss", store.rows(["d"]), [7.0])
        store.commit()
    again = ScoreStore.open(tmp_path / "s", mode="r")
    np.testing.assert_array_equal(again["loss"], [np.nan, 5, np.nan, 7])
    assert again.rows(["c", "a"]).tolist() == [2, 0]
    assert len(ScoreStore.open(tmp_path / "s", mode="r", version=1)) == 2


def test_a_store_grows_past_its_chunk(tmp_path: Path) -> None:
    with ScoreStore.create(tmp_path / "s", 3, [Loss()]) as store:
        store.fold("loss", [0, 1, 2], [1, 2, 3])
        store.commit()
        store.grow(1000)
        store.fold("loss", [999], [4])
        store.commit()
    np.testing.assert_array_equal(
        ScoreStore.open(tmp_path / "s", mode="r")["loss"][[0, 1, 2, 3, 999]], [1, 2, 3, np.nan, 4]
    )


def test_a_refused_grow_leaves_the_store_as_it_was() -> None:
    store = ScoreStore.create(None, 2, [Loss()], keys=["a", "b"])
    with pytest.raises(InvalidValue, match="key 'a' stands at rows 0 and 2"):
        store.grow(3, keys=["a"])
    assert len(store) == 2
    assert store.rows(["b"]).tolist() == [1]


@pytest.mark.parametrize(
    ("grow", "message"),
    [
        (lambda s: s.grow(3), "its 1 new rows need keys too"),
        (lambda s: s.grow(4, keys=["c"]), "1 keys for 2 rows"),
        (lambda s: s.grow(1, keys=[]), "rows are never taken away|keys for"),
    ],
)
def test_growing_wrongly_is_refused(grow, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        grow(ScoreStore.create(None, 2, [Loss()], keys=["a", "b"]))


def test_a_store_without_keys_says_so() -> None:
    with pytest.raises(StoreError, match=r"has no keys.*create\(\.\.\., keys=\.\.\.\)"):
        ScoreStore.create(None, 2, [Loss()]).rows(["a"])


def test_as_many_keys_as_rows_are_needed() -> None:
    with pytest.raises(InvalidValue, match="1 keys for 2 rows"):
        ScoreStore.create(None, 2, [Loss()], keys=["a"])


def differing(ours: list[str], theirs: list[str]) -> int | None:
    """By comparing key after key."""
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return None if ours == theirs else at


NAMES = st.lists(st.text("ab\0é", max_size=3), min_size=1, max_size=6, unique=True)


@given(NAMES, NAMES)
def test_the_first_difference_of_two_maps_is_that_of_their_keys(ours: list[str], theirs: list[str]) -> None:
    assert KeyMap.of(ours).first_difference(KeyMap.of(theirs)) == differing(ours, theirs)
    assert KeyMap.of(ours).first_difference(KeyMap.of([*ours, "another"])) == len(ours)
    assert KeyMap.of(ours).first_difference(KeyMap.of(list(ours))) is None


def test_a_store_grows_by_a_number_of_numpys_too() -> None:
    store = ScoreStore.create(None, 2, [Loss()])
    store.grow(np.int64(5))
    assert len(store) == 5


@pytest.mark.parametrize("n", [3.0, "3", None, float("nan"), [3]])
def test_a_store_grows_to_a_number_of_rows_alone(n) -> None:
    with pytest.raises(InvalidValue, match=r"n=.*: a number of rows, 1 or more"):
        ScoreStore.create(None, 2, [Loss()]).grow(n)
