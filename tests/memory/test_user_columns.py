"""Columns of the user's own: what is read is what was set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError
from adaptive_sampler.memory.user_values import of_texts
from adaptive_sampler.scoring import Loss
from tests.libraries import LIBRARIES, arrow, pandas, polars

N = 4
TEXTS = st.lists(st.text(max_size=3), min_size=1, max_size=12)


@pytest.fixture
def store():
    return ScoreStore.create(None, N, [Loss()])


@pytest.mark.parametrize(
    "make",
    [
        *(list, tuple, np.array, lambda v: np.array(v, object), lambda v: np.array(v, np.dtypes.StringDType())),
        *(arrow(), arrow("large_string"), arrow(encoded=True)),
        *(pandas("object"), pandas("str"), pandas("category")),
    ],
)
def test_texts_of_any_kind_come_back_as_objects_of_str(store, make):
    store.columns["source"] = make(["web", "books", "ümlaut", "web"])
    found = store.columns["source"]
    assert found.dtype == object
    assert found.tolist() == ["web", "books", "ümlaut", "web"]
    assert {type(text) for text in found} == {str}


@pytest.mark.parametrize("kind", ["bool", "int8", "uint16", "int64", "uint64", "float16", "float32", "float64"])
def test_numbers_keep_their_dtype(store, kind):
    store.columns["x"] = np.array([1, 0, 1, 1], kind)
    assert store.columns["x"].dtype == kind
    assert store.columns["x"].tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_arrays_of_every_library_are_columns(store, library):
    store.columns["x"] = LIBRARIES[library](np.array([1.5, 0, 2, -3]))
    assert store.columns["x"].tolist() == [1.5, 0, 2, -3]


@pytest.mark.parametrize("make", [arrow("float32"), arrow("float64"), polars, pandas("float64"), pandas("Float64")])
def test_a_null_among_floats_that_have_a_type_is_nan(store, make):
    store.columns["x"] = make([1.5, None, 2, 0])
    assert np.array_equal(store.columns["x"], [1.5, np.nan, 2, 0], equal_nan=True)


@pytest.mark.parametrize("make", [list, arrow(), pandas("float64"), pandas("Float64")])
def test_nan_is_a_float(store, make):
    store.columns["x"] = make([1.5, float("nan"), 2, 0])
    assert np.array_equal(store.columns["x"], [1.5, np.nan, 2, 0], equal_nan=True)


@given(texts=TEXTS)
def test_codes_are_equal_where_texts_are(texts):
    store = ScoreStore.create(None, len(texts), [Loss()], columns={"t": texts, "x": range(len(texts))})
    codes = store.columns.codes("t").tolist()
    assert [codes.index(code) for code in codes] == [texts.index(text) for text in texts]
    assert store.columns.codes("x") is None


def test_codes_of_a_column_that_lacks_values_raise_as_reading_it_does(store):
    store.columns["t"] = ["a"] * N
    store.grow(N + 1)
    with pytest.raises(StoreError, match="column 't' has 4 values for 5 rows"):
        store.columns.codes("t")


def test_integers_above_int64_stay_exact_in_a_list(store):
    store.columns["uid"] = values = [1, 2**63 + 1, 2**64 - 1, 0]
    assert store.columns["uid"].dtype == np.uint64
    assert store.columns["uid"].tolist() == values


@pytest.mark.parametrize("mask", [[False] * N, [True, False, True, True]])
def test_a_masked_array_is_refused_with_a_remedy_that_leaves_a_value_for_each_row(store, mask):
    masked = np.ma.masked_array(np.arange(N), mask)
    with pytest.raises(InvalidValue, match=r"column 'x': a masked array.*\.filled\(-1\)"):
        store.columns["x"] = masked
    store.columns["x"] = masked.filled(-1)
    assert (store.columns["x"] == -1).tolist() == mask


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3, 4], "int64"),
        ([True, False] * 2, "bool"),
        ([1, 2.5, 3, 4], "float64"),
        ([2**63] * 4, "uint64"),
        ([2**70, 0.5, 1, 2], "float64"),
    ],
)
def test_a_list_of_numbers_has_the_dtype_that_numpy_gives_it(store, values, kind):
    store.columns["x"] = values
    assert store.columns["x"].dtype == kind


@given(texts=TEXTS)
def test_any_texts_come_back(texts):
    assert of_texts(texts).texts().tolist() == texts


@given(
    one=st.lists(st.sampled_from("abc"), min_size=3, max_size=3),
    other=st.lists(st.sampled_from("abc"), min_size=3, max_size=3),
)
def test_the_first_difference_of_texts_is_the_first_row_whose_texts_differ(one, other):
    twin = next((row for row in range(3) if one[row] != other[row]), None)
    assert of_texts(one).first_difference(of_texts(other)) == twin
    assert of_texts(one).same(of_texts(other)) == (twin is None)


def test_texts_take_a_byte_a_row_while_there_are_no_more_than_256_of_them():
    texts = [str(i) for i in range(257)]
    assert [of_texts(texts[:256]).values.itemsize, of_texts(texts).values.itemsize] == [1, 2]


def test_what_is_read_cannot_be_changed_and_does_not_follow_what_was_set(store):
    given_ = np.arange(N)
    store.columns["x"], store.columns["t"] = given_, ["a"] * N
    given_[0] = 99
    assert store.columns["x"][0] == 0
    for name in ("x", "t"):
        with pytest.raises(ValueError, match="read-only"):
            store.columns[name][0] = store.columns[name][1]


def test_columns_are_a_dict(store):
    assert (len(store.columns), list(store.columns), "x" in store.columns) == (0, [], False)
    store.columns["x"] = range(N)
    store.columns.update(y=["a"] * N)
    assert (len(store.columns), list(store.columns), "x" in store.columns) == (2, ["x", "y"], True)
    assert store.columns.get("z") is None
    del store.columns["x"]
    assert list(store.columns) == ["y"]
    assert repr(store.columns) == "UserColumns({'y': 'text'})"
    assert store.about["columns"] == {"y": "text"}


def test_a_set_column_is_an_update_unless_it_was_so_already(store):
    updates = [store.made_from.updates]
    for values in ([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 5], np.array([1, 2, 3, 5], np.int32)):
        store.columns["x"] = values
        updates.append(store.made_from.updates)
    assert updates == [0, 1, 1, 2, 3]


def test_a_digest_tells_columns_apart_by_name_kind_and_value(store):
    digests = set()
    for name, values in (
        ("x", [1, 2, 3, 4]),
        ("x", [1.0, 2, 3, 4]),
        ("x", list("abcd")),
        ("x", list("abce")),
        ("y", list("abce")),
    ):
        store.columns.clear()
        store.columns[name] = values
        digests.add(store.session.digest())
    assert len(digests) == 5
