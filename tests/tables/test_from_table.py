"""Stores from tables: what a store exported comes back to the bit; what something else wrote is one observation a value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting, Loss, Score
from adaptive_sampler.selection import Prune
from adaptive_sampler.tables import blocks

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
from pyarrow import parquet  # noqa: E402

from tests.stores import Lowest  # noqa: E402
from tests.tables.helpers import QUALITY, SCORES, N, at_once, made, observed, quality, refused  # noqa: E402

ENDINGS = [".parquet", ".feather", ".arrow", ".csv"]
VALUE = st.floats(-1e3, 1e3, width=32)
LINES = st.sampled_from([1, 2, 3, 100])  # that are read at a time
BATCHES = st.lists(
    st.tuples(st.sampled_from([s.name for s in SCORES]), st.lists(st.tuples(st.integers(0, N - 1), VALUE), max_size=4)),
    max_size=8,
)


# -- the round trip -----------------------------------------------------------------------------------------------------


@given(ending=st.sampled_from(ENDINGS), batches=BATCHES, keyed=st.booleans(), lines=LINES)
def test_a_store_that_was_exported_comes_back_to_the_bit(tmp_path_factory, ending, batches, keyed, lines):
    path = tmp_path_factory.getbasetemp() / f"round-trip{ending}"
    store = observed(batches, [f"key {i}" for i in range(N)] if keyed else None)
    store.export(path, state=True)
    with at_once(lines):
        back = made(path, SCORES if ending == ".csv" else None)
    assert back.session.digest() == store.session.digest()  # of scores, counts, last seen and states
    assert back.names == store.names
    assert [back.observed(name) for name in back.names] == [store.observed(name) for name in store.names]
    assert (back.session.keys is not None) == keyed
    assert not keyed or [back.key(row) for row in range(N)] == [store.key(row) for row in range(N)]


@given(batches=BATCHES, more=BATCHES)
def test_a_store_that_came_back_goes_on_as_the_one_that_was_exported(tmp_path_factory, batches, more):
    path = tmp_path_factory.getbasetemp() / "goes-on.parquet"
    store = observed(batches)
    store.export(path)
    back = made(path)
    for each in (store, back):
        for name, batch in more:
            each.fold(name, [row for row, _ in batch], [value for _, value in batch], epoch=9)
    assert back.session.digest() == store.session.digest()


def test_epoch_run_and_fingerprint_come_back(tmp_path):
    store = observed([])
    store.begin_run("seed 1")
    store.epoch = 7
    store.export(tmp_path / "x.parquet")
    back = made(tmp_path / "x.parquet")
    assert (back.epoch, back.about["runs"], back.about["fingerprint"]) == (7, ["", "seed 1"], "of the data")


@given(batches=BATCHES, lines=LINES)
def test_scores_share_a_book_that_were_observed_equally_often_and_last_in_the_same_epochs(batches, lines):
    store = observed(batches)
    loss = [score for score in SCORES if score.name in ("loss", "average", "el2n")]
    columns = {}
    for name in (score.name for score in loss):
        columns |= {name: store[name], f"{name}/count": store.count(name), f"{name}/last_seen": store.last_seen(name)}
    with at_once(lines):
        back = made(pa.table(columns), loss)
    twin = {(store.count(score.name).tobytes(), store.last_seen(score.name).tobytes()) for score in loss}
    assert len(back.session.table.books) == len(twin)
    assert [back.count(score.name).tolist() for score in loss] == [store.count(score.name).tolist() for score in loss]


def test_scores_that_were_observed_together_share_a_book_again(tmp_path):
    store = ScoreStore.create(None, 3, [Loss(), EL2N(), Forgetting()])
    store.update([0], logits=np.eye(3)[:1], labels=[1])
    store.fold("loss", [1], [1])
    store.export(tmp_path / "x.parquet")
    assert len(made(tmp_path / "x.parquet").session.table.books) == len(store.session.table.books) == 2


@pytest.mark.parametrize("key", ["", "two\nlines", 'a "quote", a comma', "a\rreturn", "nul\0", "ümlaut", "NA", "007"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_any_key_comes_back(tmp_path, ending, key):
    store = ScoreStore.create(None, 3, [Loss()], keys=["first", key, "last"])
    store.export(tmp_path / f"x{ending}")
    back = made(tmp_path / f"x{ending}", [Loss()])
    assert back.key(1) == key
    assert back.rows(["last", key]).tolist() == [2, 1]


@given(order=st.permutations(range(N)), lines=LINES)
def test_lines_in_any_order_go_to_the_rows_that_they_name(order, lines):
    store = observed([("loss", [(1, 2.0), (4, 8.0)])], keys="abcde")
    columns = {"row": range(N), "key": [*"abcde"], "loss": store["loss"], "site": [*"vwvxv"], "length": [5, 4, 3, 2, 1]}
    table = pa.table({name: [values[i] for i in order] for name, values in columns.items()})
    with at_once(lines):
        back = made(table, [Loss()], columns=["site", "length"])
    assert {name: back.columns[name].tolist() for name in back.columns} == {
        "site": [*"vwvxv"],
        "length": [5, 4, 3, 2, 1],
    }
    assert np.array_equal(back["loss"], store["loss"], equal_nan=True)
    assert [back.key(row) for row in range(N)] == [*"abcde"]


@pytest.mark.parametrize("columns", [["el2n"], ["el2n", "loss"]])
def test_some_scores_of_an_exported_store_can_be_asked_for(tmp_path, columns):
    store = observed([("el2n", [(0, 1.0), (0, 3.0)])])
    store.export(tmp_path / "x.parquet")
    back = made(tmp_path / "x.parquet", [score for score in SCORES if score.name in columns])
    assert sorted(back.names) == columns
    assert (back["el2n"][0], back.count("el2n")[0]) == (2, 2)


def test_a_custom_score_is_passed_again(tmp_path):
    score = Score("lowest", lambda value: value, Lowest())
    store = ScoreStore.create(None, 3, [score])
    store.update([1, 1], value=np.array([2.0, 1.0]))
    store.export(tmp_path / "x.parquet")
    refused("lowest is a custom score: pass all that you want", tmp_path / "x.parquet")
    assert made(tmp_path / "x.parquet", [score]).session.digest() == store.session.digest()


def test_a_plans_rows_make_a_store_once_their_numbers_are_left_out(tmp_path):
    store = observed([("loss", [(i, float(i)) for i in range(N)])], keys="abcde")
    store.export(tmp_path / "x.parquet", plan=Prune(2, "loss").plan(store, epoch=0, seed=0))
    refused(r"row 3 is outside 0 … 1: .* Leave the column out", tmp_path / "x.parquet")
    kept = made(parquet.read_table(tmp_path / "x.parquet").drop_columns(["row"]))
    assert (kept["loss"].tolist(), kept.key(0)) == ([3, 4], "d")
    assert kept.about["fingerprint"] is None  # these are no longer all rows of that dataset


def test_a_store_from_a_table_is_one_commit(tmp_path):
    observed([("loss", [(1, 2.0)])]).export(tmp_path / "x.parquet")
    with ScoreStore.from_table(tmp_path / "s", tmp_path / "x.parquet") as store:
        assert [version[:1] + version[2:3] for version in store.versions()] == [(1, "made from a table")]
        digest = store.session.digest()
    with ScoreStore.open(tmp_path / "s") as again:
        assert again.session.digest() == digest


# -- tables of others ---------------------------------------------------------------------------------------------------


def test_a_value_counts_as_observed_once_in_the_epoch_that_is_named():
    store = made(quality([0.5, None, float("nan"), 2]), QUALITY, key="id", epoch=3)
    assert np.array_equal(store["quality"], [0.5, np.nan, np.nan, 2], equal_nan=True)
    assert store.count("quality").tolist() == [1, 0, 0, 1]
    assert store.last_seen("quality").tolist() == [3, -1, -1, 3]
    assert store.rows(["k3"]).tolist() == [3]


class ByStream:
    """Any table that speaks the Arrow C interface, as those of Polars and DuckDB do."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


class ByArray:
    """A single batch that speaks it."""

    def __init__(self, table):
        self.batch = table.combine_chunks().to_batches()[0]

    def __arrow_c_array__(self, requested_schema=None):
        return self.batch.__arrow_c_array__(requested_schema)


def frame(table):
    return pytest.importorskip("pandas") and table.to_pandas()


def polars_frame(table):
    """Whose texts are views, a type of their own in Arrow."""
    return pytest.importorskip("polars").from_arrow(table)


@pytest.mark.parametrize(
    "as_other", [ByStream, ByArray, frame, polars_frame, lambda t: t.to_reader(), lambda t: [t.slice(0, 2), t.slice(2)]]
)
def test_whatever_speaks_arrow_is_a_table(as_other):
    store = made(as_other(quality([0.5, None, 1.5])), QUALITY, key="id")
    assert np.array_equal(store["quality"], [0.5, np.nan, 1.5], equal_nan=True)
    assert store.key(2) == "k2"


@pytest.mark.parametrize("kind", ["int8", "int64", "uint16", "float16", "float32", "float64", "bool_"])
def test_numbers_of_any_type_are_scores(kind):
    values = pa.array([1, None, 0]).cast(getattr(pa, kind)())
    store = made(pa.table({"quality": values}), QUALITY)
    assert np.array_equal(store["quality"], [1, np.nan, 0], equal_nan=True)


def test_a_column_of_nulls_alone_is_a_score_that_was_never_observed():
    assert np.isnan(made(pa.table({"quality": pa.nulls(3)}), QUALITY)["quality"]).all()


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_keys_are_text_of_any_type(kind):
    store = made(quality([1.0, 2.0], pa.array(["b", "ä"]).cast(kind)), QUALITY, key="id")
    assert store.rows(["ä", "b"]).tolist() == [1, 0]


def test_a_folder_is_one_table_in_the_order_of_its_files_names_and_empty_files_are_harmless(tmp_path):
    for name, part in {
        "b": quality([3.0], ["z"]),
        "a": quality([1.0, 2.0], ["x", "y"]),
        "c": quality([1.0]).slice(1),
    }.items():
        parquet.write_table(part, tmp_path / f"{name}.parquet")
    (tmp_path / "_SUCCESS").touch()
    store = made(tmp_path, QUALITY, key="id")
    assert store["quality"].tolist() == [1, 2, 3]
    assert [store.key(i) for i in range(3)] == ["x", "y", "z"]


def test_blocks_of_a_large_file_leave_no_seam(tmp_path, monkeypatch):
    from adaptive_sampler.tables.arrow import sources

    monkeypatch.setattr(blocks, "AT_ONCE", 7)
    monkeypatch.setattr(sources, "AT_ONCE", 11)
    store = ScoreStore.create(None, 100, [Loss()], keys=[f"key {i}" for i in range(100)])
    store.fold("loss", range(0, 100, 3), range(0, 100, 3))
    for ending in ENDINGS:
        store.export(tmp_path / f"x{ending}", state=True)
        back = made(tmp_path / f"x{ending}", [Loss()])
        assert back.session.digest() == store.session.digest()
        assert [back.key(i) for i in range(100)] == [store.key(i) for i in range(100)]
