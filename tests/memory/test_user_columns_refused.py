"""Columns of the user's own: what is refused, with a remedy, and changes nothing."""

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError, UnknownName
from adaptive_sampler.scoring import Loss
from tests.libraries import arrow, pandas, polars

N = 4


@pytest.fixture
def store():
    return ScoreStore.create(None, N, [Loss()])


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
        ([2**53 + 1, 0.5, 1, 2], "integers beside floats, of which no float is 9007199254740993. Use texts"),
        ([-(10**400), 0.5, 1, 2], "integers beside floats, .*Use texts"),
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


@pytest.mark.parametrize("make", [arrow(), pandas("Int64"), polars])
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
