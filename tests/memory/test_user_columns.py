"""Columns of the user's own: what can be set, what is read, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError, UnknownName
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.user_column import UserColumn, joined
from adaptive_sampler.memory.user_values import of_texts
from adaptive_sampler.scoring import Loss
from tests.libraries import LIBRARIES

N = 4
TEXTS = st.lists(st.text(max_size=3), min_size=1, max_size=12)


@pytest.fixture
def store():
    return ScoreStore.create(None, N, [Loss()])


def arrow(kind=None, encoded=False):
    def make(values):
        pa = pytest.importorskip("pyarrow")
        array = pa.array(values, getattr(pa, kind)() if kind else None)
        return array.dictionary_encode() if encoded else pa.chunked_array([array.slice(0, 1), array.slice(1)])

    return make


def pandas(kind):
    return lambda values: pytest.importorskip("pandas").Series(values, dtype=kind)


# -- what is read is what was set ---------------------------------------------------------------------------------------


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
    [([1, 2, 3, 4], "int64"), ([True, False] * 2, "bool"), ([1, 2.5, 3, 4], "float64"), ([2**63] * 4, "uint64")],
)
def test_a_list_of_numbers_has_the_dtype_that_numpy_gives_it(store, values, kind):
    store.columns["x"] = values
    assert store.columns["x"].dtype == kind


@given(texts=TEXTS)
def test_any_texts_come_back(texts):
    assert of_texts(texts).texts().tolist() == texts


@given(parts=st.lists(TEXTS, min_size=1, max_size=3), data=st.data())
def test_texts_are_the_same_however_they_were_put_together(parts, data):
    texts = [text for part in parts for text in part]
    whole = of_texts(texts)
    assert joined([of_texts(part) for part in parts]).same(whole)
    order = data.draw(st.permutations(range(len(texts))))
    assert whole.at(np.array(order)).same(of_texts([texts[i] for i in order]))


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


# -- what is refused, with a remedy -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            [1, "a", 2, 3],
            "row 1 is 'a', row 0 is 1. A column holds texts, truth values, integers or floats, and all of one",
        ),
        ([True, 1, 0, 1], "row 1 is 1, row 0 is True"),
        ([None, "a", "b", "c"], r"row 0 is null \(None\), and only floats may be NaN. Give it a value of its own"),
        (["a", float("nan"), "b", "c"], "row 1 is null"),
        ([1.5, None, 2, 3], r"row 1 is null .*among floats, float\('nan'\)"),
        ([1, 2, 3], r"values of shape \(3,\) for 4 rows; .*Pass 4 values"),
        ([], r"values of shape \(0,\) for 4 rows"),
        (np.ones((4, 2)), r"values of shape \(4, 2\) for 4 rows"),
        ([[1], [2], [3], [4]], r"row 0 is \[1\]"),
        ([b"a"] * 4, "row 0 is b'a'"),
        (np.array([b"a"] * 4), r"values of dtype \|S1.*astype\('U'\)"),
        (np.array([1j] * 4), "values of dtype complex128"),
        (np.array(["2020"] * 4, "datetime64[D]"), r"datetime64.*astype\('int64'\)"),
        (["a", "\ud800", "b", "c"], "row 1 is '.ud800', which UTF-8 cannot encode"),
        ([1, 2**70, 3, 4], "row 1 is 1180591620717411303424, which with the others fits neither int64 nor uint64"),
        ([1, 2**63, -1, 4], "row 2 is -1, which with the others fits neither int64 nor uint64"),
        ("abcd", "str is no list of values"),
        ({"a": 1}, "dict is no list of values"),
        ({1, 2, 3, 4}, "set is no list of values"),
        (5, "int is no list of values"),
        (None, "NoneType is no list of values"),
    ],
)
def test_values_that_make_no_column_are_refused_and_change_nothing(store, values, words):
    store.columns["x"] = list("abcd")
    before = store.made_from
    with pytest.raises(InvalidValue, match=f"column 'x': .*{words}"):
        store.columns["x"] = values
    assert store.columns["x"].tolist() == list("abcd")
    assert store.made_from == before


@pytest.mark.parametrize("make", [arrow(), pandas("Int64")])
def test_a_null_among_integers_is_no_nan(store, make):
    with pytest.raises(InvalidValue, match="column 'x': row 1 is null"):
        store.columns["x"] = make([1, None, 2, 3])


@pytest.mark.parametrize("name", ["a b", "", "a/b", "../x", 1, None, "1st"])
def test_a_name_is_an_identifier(store, name):
    with pytest.raises(InvalidValue, match="an identifier is needed, such as 'source'"):
        store.columns[name] = range(N)


def test_the_name_of_the_keys_is_taken(store):
    with pytest.raises(InvalidValue, match="'keys': an identifier other than 'keys'"):
        store.columns["keys"] = range(N)


def test_a_column_and_a_score_cannot_share_a_name(store):
    with pytest.raises(InvalidValue, match="column name 'loss': a score has that name"):
        store.columns["loss"] = range(N)
    store.columns["late"] = range(N)
    with pytest.raises(InvalidValue, match="score name 'late': a column of your own has it"):
        store.add(Loss(name="late"))
    del store.columns["late"]  # the remedy
    store.add(Loss(name="late"))


def test_an_unknown_column_is_told_with_those_that_there_are(store):
    store.columns["x"] = range(N)
    for ask in (lambda: store.columns["y"], lambda: store.columns.pop("y")):
        with pytest.raises(UnknownName, match=r"the store has no column 'y'; it has x\. Set it"):
            ask()


@pytest.mark.parametrize(
    "ask",
    [
        lambda store, _: store.columns["x"],
        lambda store, _: store.commit(),
        lambda store, path: store.export(path / "x.csv"),
        lambda store, _: ScoreStore.merge(None, [store]),
    ],
    ids=["read", "commit", "export", "merge"],
)
def test_a_store_that_has_grown_asks_for_its_columns_anew(store, tmp_path, ask):
    store.columns["x"], store.columns["y"] = range(N), range(N)
    store.grow(N + 1)
    with pytest.raises(
        StoreError, match=r"column 'x' has 4 values for 5 rows: the store has grown .*Set it anew for all rows"
    ):
        ask(store, tmp_path)
    store.columns["x"] = range(N + 1)  # the two remedies
    del store.columns["y"]
    ask(store, tmp_path)


# -- in a merge ---------------------------------------------------------------------------------------------------------


def sites(one, other, keys=("abc", "cab"), name="source"):
    stores = [ScoreStore.create(None, 3, [Loss()], keys=order) for order in keys]
    for store, values in zip(stores, (one, other), strict=True):
        if values is not None:
            store.columns[name] = values
    return stores


@pytest.mark.parametrize(
    ("one", "other"),
    [(["web", "books", "web"], ["web", "web", "books"]), ([1, 2, 3], [3, 1, 2]), ([1.0, np.nan, 3], [3, 1, np.nan])],
    ids=["texts", "integers", "floats"],
)
def test_a_merge_keeps_columns_that_agree_by_key(one, other):
    for second in (other, None):
        merged = ScoreStore.merge(None, sites(one, second))
        assert np.array_equal(merged.columns["source"], one, equal_nan=isinstance(one[0], float))
    assert ScoreStore.merge(None, sites(None, other)).columns["source"].tolist()[0] == one[0]


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (list("xyz"), list("zxw"), r"key 'b' \(row 1\) is 'y' in .*, 'w' in .*Set it alike in both, or del"),
        ([1, 2, 3], [4, 1, 2], r"key 'c' \(row 2\) is 3 in .*, 4 in"),
        ([1, 2, 3], list("312"), r"key 'a' \(row 0\) is 1 in .*, '1' in"),
        ([True] * 3, [1] * 3, r"key 'a' \(row 0\) is True in .*, 1 in"),
    ],
)
def test_a_merge_refuses_columns_that_differ_by_row(one, other, words):
    stores = sites(one, other)
    with pytest.raises(InvalidValue, match=f"column 'source': {words}"):
        ScoreStore.merge(None, stores)
    del stores[1].columns["source"]  # the remedy
    assert ScoreStore.merge(None, stores).columns["source"].tolist() == one


def test_codes_in_any_order_make_the_same_column_as_their_texts():
    column = UserColumn.of_codes(np.array([3, 1, 3]), KeyMap.of("abcd"))
    assert column.same(of_texts(["d", "b", "d"]))
