"""Columns of the user's own in tables: written beside the scores, read again to the bit, and taken from tables of others."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.tables import blocks

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
from pyarrow import feather, parquet  # noqa: E402

N = 4
ENDINGS = [".parquet", ".feather", ".arrow"]
OWN = {
    "source": ["web", "books", "web", "ü\n"],
    "row": [3, 1, 4, 1],
    "small": np.array([1, 2, 3, 255], np.uint8),
    "half": np.array([0.5, np.nan, np.inf, -1], np.float16),
    "length": [0.1, np.nan, 2, 3],
    "checked": [True, False, True, False],
}
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), min_size=N, max_size=N)
NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=N, max_size=N)
FLOATS = st.lists(st.floats(), min_size=N, max_size=N)


def store_with(columns, **arguments):
    return ScoreStore.create(None, N, [Loss()], columns=columns, **arguments)


def back(source, scores=None, **arguments):
    return ScoreStore.from_table(None, source, scores, **arguments)


def read(store):
    return {name: values.tolist() for name, values in store.columns.items()}


@pytest.mark.parametrize("keys", [None, "abcd"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_columns_that_were_exported_come_back_to_the_bit(tmp_path: Path, ending: str, keys) -> None:
    store = store_with(OWN, keys=keys)
    store.export(tmp_path / f"x{ending}")
    again = back(tmp_path / f"x{ending}")
    assert again.session.digest() == store.session.digest()
    assert again.about["columns"] == store.about["columns"]


@given(texts=TEXTS, numbers=NUMBERS, floats=FLOATS)
def test_any_values_come_back_from_parquet(tmp_path_factory, texts, numbers, floats):
    path = tmp_path_factory.getbasetemp() / "own.parquet"
    store = store_with({"t": texts, "i": numbers, "f": floats})
    store.export(path)
    assert back(path).session.digest() == store.session.digest()


def test_columns_come_after_the_scores_and_before_their_state(tmp_path: Path) -> None:
    store_with({"source": list("abca"), "key": [1] * N}).export(tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    expected = ["row", "repeats", "loss_weight", "loss", "source", "column:key", "loss/count", "loss/last_seen"]
    assert table.column_names == expected
    assert table.column("source").to_pylist() == list("abca")


def test_an_export_of_a_plan_has_its_rows_values(tmp_path: Path) -> None:
    store = store_with(OWN)
    store.fold("loss", range(N), [4, 3, 2, 1])
    store.export(tmp_path / "x.feather", plan=Prune(2, "loss", order="lowest").plan(store, epoch=0, seed=0))
    table = feather.read_table(tmp_path / "x.feather")
    assert table.column("source").to_pylist() == ["web", "ü\n"]
    assert table.column("column:row").to_pylist() == [4, 1]


def test_blocks_leave_no_seam_in_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of as many lines as there are texts, too, which once were taken for the texts themselves."""
    monkeypatch.setattr(blocks, "AT_ONCE", 3)
    texts = [*"bacbbacca"]
    with ScoreStore.create(None, len(texts), [Loss()], columns={"t": texts}) as store:
        store.export(tmp_path / "x.parquet")
    assert parquet.read_table(tmp_path / "x.parquet").column("t").to_pylist() == texts


def test_lines_in_any_order_go_to_the_rows_that_they_name(tmp_path: Path) -> None:
    store = store_with({"source": list("abca"), "tokens": range(N)})
    store.export(tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet").take([2, 0, 3, 1])
    assert back(table).session.digest() == store.session.digest()


# -- CSV has no types ---------------------------------------------------------------------------------------------------


def test_csv_columns_are_what_all_their_texts_say(tmp_path: Path) -> None:
    own = {
        "t": ["007", "1", "2", "3"],
        "i": [-1, 0, 7, 2**63 - 1],
        "u": [2**64 - 1, 0, 1, 2**63],
        "large": ["-1", "1", "2", "9999999999999999999"],
        "mixed": ["9007199254740993", "0.5", "nan", "1"],  # the first of which no float is
        "longest": ["123456789012345678901", "0.5", "1", "2"],
        "beyond": ["1e400", "0.5", "inf", "2"],  # the first of which a float has as infinite
        "f": [0.1, np.nan, -np.inf, 1e-9],
        "huge": [2.0**70, 0.5, 1e22, -0.0],
        "b": [True, False] * 2,
    }
    store = store_with(own)
    store.export(tmp_path / "x.csv", state=True)
    again = back(tmp_path / "x.csv", [Loss()], columns=[*own])
    assert again.session.digest() == store.session.digest()


def test_csv_says_nothing_of_columns_so_that_they_are_asked_for(tmp_path: Path) -> None:
    store_with({"source": list("abca"), "row": [1] * N}).export(tmp_path / "x.csv")
    assert len(back(tmp_path / "x.csv", [Loss()]).columns) == 0
    asked = back(tmp_path / "x.csv", [Loss()], columns={"source": "site", "column:row": "place"})
    assert read(asked) == {"site": list("abca"), "place": [1] * N}


# -- tables of others ---------------------------------------------------------------------------------------------------

QUALITY = {"quality": Loss(name="quality")}


def others(**columns):
    return pa.table({"quality": [0.5, None, 1.5, 2]} | columns)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())], ids=str
)
def test_texts_of_any_type_are_columns(kind) -> None:
    table = others(site=pa.array(["b", "a", "b", "c"]).cast(kind))
    assert read(back(table, QUALITY, columns=["site"])) == {"site": ["b", "a", "b", "c"]}


@pytest.mark.parametrize("kind", ["int8", "uint64", "float16", "float32", "float64", "bool_"])
def test_numbers_of_any_type_are_columns(kind: str) -> None:
    store = back(others(x=pa.array([1, 0, 1, 1]).cast(getattr(pa, kind)())), QUALITY, columns={"x": "mine"})
    assert store.columns["mine"].tolist() == [1, 0, 1, 1]
    assert store.about["columns"] == {"mine": kind.removesuffix("_")}


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_the_null_of_a_float_is_nan_as_in_a_column_that_is_set(kind: str) -> None:
    values = pa.array(np.array([1.5, 0, 2, 3], kind), mask=np.array([False, True, False, False]))
    store = back(others(x=values), QUALITY, columns=["x"])
    assert np.array_equal(store.columns["x"], [1.5, np.nan, 2, 3], equal_nan=True)
    before = store.session.digest()
    store.columns["x"] = values
    assert store.session.digest() == before


def test_a_dictionary_that_differs_from_chunk_to_chunk_is_one_column() -> None:
    parts = [pa.array(list("ab")).dictionary_encode(), pa.array(list("ca")).dictionary_encode()]
    assert read(back(others(x=pa.chunked_array(parts)), QUALITY, columns=["x"])) == {"x": list("abca")}


@pytest.mark.parametrize(
    ("columns", "asked", "words"),
    [
        ({"x": ["a", None, "b", "c"]}, ["x"], r"line 1 \(the first is 0\): x is null: only floats may lack a value"),
        ({"x": [1, None, 2, 3]}, ["x"], r"line 1 .*: x is null"),
        ({"x": [[1]] * 4}, ["x"], r"column 'x' is list<.*a column of your own holds texts, truth values or numbers"),
        ({"x": pa.array([b"a", b"\xff", b"b", b"c"]).view(pa.string())}, ["x"], r"line 1 .*: x b'\\xff' is no UTF-8"),
        ({}, ["x"], "no column 'x': it has quality"),
        ({"x": [1] * 4}, "x", r"columns='x': a list of columns, .*Pass \['x'\]"),
        ({"a b": [1] * 4}, ["a b"], "column name 'a b': an identifier is needed"),
        ({"x": [1] * 4}, {"x": "quality"}, "column name 'quality': a score has that name"),
        ({"x": [1] * 4, "y": [1] * 4}, {"x": "z", "y": "z"}, "two become 'z'"),
        ({}, {"quality": "q"}, "one of them is asked for twice"),
    ],
)
def test_what_makes_no_column_is_refused(columns, asked, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        back(others(**columns), QUALITY, columns=asked)


def test_an_exported_column_that_is_not_wanted_stays_out(tmp_path: Path) -> None:
    store_with(OWN).export(tmp_path / "x.parquet")
    assert read(back(tmp_path / "x.parquet", columns=["column:row"])) == {"row": OWN["row"]}
    assert len(back(tmp_path / "x.parquet", columns=[]).columns) == 0
