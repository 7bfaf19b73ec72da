"""Values of a table are folded in by key or by row, all or nothing; whatever is wrong is told with its place."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, RowError, StoreError, UnknownName
from adaptive_sampler.scoring import EL2N, Forgetting, Loss, Mean

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
from pyarrow import feather, parquet  # noqa: E402

from adaptive_sampler.tables import spool  # noqa: E402
from tests.tables.helpers import at_once  # noqa: E402

N = 6
KEYS = [f"k{i}" for i in range(N)]
VALUE = st.one_of(st.none(), st.just(float("nan")), st.floats(-1e3, 1e3, width=32))
VALUES = st.lists(VALUE, min_size=N, max_size=N)


def store_of(*scores, keys=KEYS):
    return ScoreStore.create(None, N, scores or [Loss(fold=Mean()), EL2N()], keys=keys)


def table(ids, **columns):
    return pa.table({"id": ids} | columns)


def unchanged(store, error, words, source, **arguments):
    """Fold what is refused, and see that nothing has changed."""
    before = store.session.digest(), store.made_from, len(store.session.table.books)
    with pytest.raises(error, match=words):
        store.fold_table(source, **({"key": "id", "scores": {"q": "loss"}} | arguments))
    assert (store.session.digest(), store.made_from, len(store.session.table.books)) == before


# -- what is folded -----------------------------------------------------------------------------------------------------


@given(
    order=st.permutations(range(N)),
    losses=st.lists(VALUE, min_size=N, max_size=N),
    el2n=st.lists(VALUE, min_size=N, max_size=N),
    lines=st.sampled_from([1, 2, 100]),
    in_memory=st.sampled_from([1, 1 << 20]),
)
def test_a_table_folds_as_its_values_do_one_by_one(order, losses, el2n, lines, in_memory):
    one, other = store_of(), store_of()
    for _ in range(2):
        with at_once(lines), patch.object(spool, "IN_MEMORY", in_memory):
            one.fold_table(
                table([KEYS[i] for i in order], q=pa.array(losses, pa.float64()), e=pa.array(el2n, pa.float64())),
                key="id",
                scores={"q": "loss", "e": "el2n"},
                epoch=3,
            )
        for name, values in (("loss", losses), ("el2n", el2n)):
            for row, value in zip(order, values, strict=True):
                if value is not None and value == value:
                    other.fold(name, [row], [value], epoch=3)
    assert one.session.digest() == other.session.digest()
    assert one.observed("loss") == other.observed("loss")


def test_without_a_key_the_column_row_says_whose_values_they_are():
    store = store_of(keys=None)
    store.fold_table(pa.table({"row": [4, 1], "q": [0.5, 2.0]}), scores={"q": "loss"})
    assert np.flatnonzero(store.count("loss")).tolist() == [1, 4]
    store.fold_table(pa.table({"index": [5], "q": [0.5]}), row="index", scores={"q": "loss"})
    assert store["loss"][5] == 0.5


def test_values_are_of_the_stores_epoch_unless_one_is_named():
    store = store_of()
    store.epoch = 4
    store.fold_table(table(["k0"], q=[1.0]), key="id", scores={"q": "loss"})
    store.fold_table(table(["k1"], q=[1.0]), key="id", scores={"q": "loss"}, epoch=9)
    assert store.last_seen("loss")[:2].tolist() == [4, 9]


def test_a_table_is_one_update_however_it_is_cut(tmp_path):
    store = store_of()
    values = table(KEYS, q=[1.0] * N, e=[1.0, None] * 3)
    parquet.write_table(values, tmp_path / "x.parquet", row_group_size=1)
    store.fold_table(tmp_path / "x.parquet", key="id", scores={"q": "loss", "e": "el2n"})
    assert store.made_from.updates == 1


def test_in_a_journal_a_table_is_one_update_of_each_group_of_scores():
    store = store_of()
    store.session.keep_journal()
    with at_once(1):
        store.fold_table(table(KEYS[::-1], q=[1.0] * N, e=[2.0] * N), key="id", scores={"e": "el2n", "q": "loss"})
        store.fold_table(table(["k1", "k0"], q=[1, 2], e=[3, None]), key="id", scores={"q": "loss", "e": "el2n"})
    found = [(entry.rows.tolist(), entry.values.tolist()) for entry in store.session.journal.entries]
    assert found == [([5, 4, 3, 2, 1, 0], [[1.0] * N, [2.0] * N]), ([1, 0], [[1, 2]]), ([1], [[3]])]


def test_scores_with_values_in_the_same_lines_go_on_sharing_their_counts():
    store = store_of()
    store.fold_table(table(["k0", "k1"], q=[1.0, None], e=[2.0, None]), key="id", scores={"q": "loss", "e": "el2n"})
    assert len(store.session.table.books) == 1
    store.fold_table(table(["k0", "k1"], q=[1.0, None], e=[2.0, 2.0]), key="id", scores={"q": "loss", "e": "el2n"})
    assert (store.count("loss").sum(), store.count("el2n").sum()) == (2, 3)


def test_a_measured_right_or_wrong_is_folded_as_a_presentation():
    store = store_of(Forgetting())
    for wrong in (False, True):
        store.fold_table(table(["k2"], wrong=[wrong]), key="id", scores={"wrong": "forgetting"})
    assert store["forgetting"][2] == 1


@pytest.mark.parametrize("ending", ["parquet", "feather", "csv"])
def test_files_are_folded_as_the_tables_in_them(tmp_path, ending):
    path, values = tmp_path / f"x.{ending}", table(["k3", "k1"], other=["x", "y"], q=[0.1, None])
    if ending == "csv":
        path.write_text("id,other,q\nk3,x,0.1\nk1,y,\n")
    else:
        {"parquet": parquet.write_table, "feather": feather.write_feather}[ending](values, path)
    store = store_of()
    store.fold_table(path, key="id", scores={"q": "loss"})
    assert store["loss"][3] == np.float32(0.1)
    assert store.observed("loss") == 1


# -- what is refused, with nothing changed ------------------------------------------------------------------------------

BAD = {
    "an unknown key": (table(["k0", "x"], q=[1, 2]), UnknownName, r"line 1 .*: key 'x' is not in the store"),
    "a key twice": (
        table(["k0", "k1", "k0"], q=[1, 2, 3]),
        InvalidValue,
        r"line 2 .*: key 'k0' comes twice, .* line 0",
    ),
    "a null key": (table(["k0", None], q=[1, 2]), InvalidValue, r"line 1 .*: id is null"),
    "keys that are numbers": (table([0, 1], q=[1, 2]), InvalidValue, "column 'id' is int64: keys are text"),
    "an infinity": (table(["k0", "k1"], q=[1, -np.inf]), InvalidValue, r"line 1 .*: q is -inf"),
    "what float32 cannot hold": (table(["k0"], q=[1e39]), InvalidValue, r"line 0 .*: q 1e\+39 does not fit float32"),
    "text for a score": (table(["k0"], q=["good"]), InvalidValue, "column 'q' is string"),
    "a score that is not there": (table(["k0"], p=[1]), InvalidValue, "no column 'q': it has id, p"),
    "no line": (table(["k0"], q=[1]).slice(1), InvalidValue, "the table has no line"),
    "a path of no table": ("x.json", InvalidValue, "a table is a file that ends with"),
}


@pytest.mark.parametrize("lines", [1, 100])
@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_refused_and_nothing_is_changed(case, lines):
    source, error, words = BAD[case]
    with at_once(lines):
        unchanged(store_of(), error, words, source)


def test_the_row_group_of_a_fault_is_named(tmp_path):
    parquet.write_table(table([*KEYS[:5], "x"], q=range(6)), tmp_path / "x.parquet", row_group_size=2)
    unchanged(store_of(), UnknownName, r"x\.parquet, row group 2, line 1 .*'x'", tmp_path / "x.parquet")


def test_a_key_in_two_files_is_named_with_both(tmp_path):
    for name in "ab":
        parquet.write_table(table(["k1"], q=[1.0]), tmp_path / f"{name}.parquet")
    unchanged(
        store_of(), InvalidValue, r"b\.parquet, row group 0, line 0 .*'k1' .*a\.parquet, row group 0, line 0", tmp_path
    )


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([0, N], RowError, rf"line 1 .*: row {N} is outside 0 … {N - 1}"),
        ([0, -1], RowError, r"line 1 .*: row -1 is outside"),
        ([3, 3], InvalidValue, r"line 1 .*: row 3 comes twice"),
        ([3, None], InvalidValue, r"line 1 .*: row is null"),
        ([3.0, 4.0], InvalidValue, "column 'row' is double: row numbers are integers"),
    ],
)
def test_rows_that_are_none_are_refused(rows, error, words):
    unchanged(store_of(), error, words, pa.table({"row": rows, "q": [1.0, 2.0]}), key=None)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"scores": {"q": "nope"}}, UnknownName, "no score 'nope'"),
        ({"scores": {}}, InvalidValue, "a dict of columns and the scores"),
        ({"scores": "loss"}, InvalidValue, "a dict of columns and the scores"),
        ({"scores": {"q": "loss", "e": "loss"}}, InvalidValue, "more than one column feeds 'loss'"),
        ({"scores": {"id": "loss"}}, InvalidValue, "column 'id' cannot tell rows and be a score"),
        ({"epoch": -1}, InvalidValue, "epoch=-1"),
    ],
)
def test_what_is_asked_for_must_make_sense(arguments, error, words):
    unchanged(store_of(), error, words, table(["k0"], q=[1.0], e=[1.0]), **arguments)


def test_a_store_without_keys_has_no_rows_by_key():
    unchanged(store_of(keys=None), StoreError, "has no keys", table(["k0"], q=[1.0]))


def test_a_store_that_is_open_to_read_is_left_alone(tmp_path):
    ScoreStore.create(tmp_path / "s", N, [Loss()], keys=KEYS).close()
    unchanged(ScoreStore.open(tmp_path / "s", mode="r"), StoreError, "open to read", table(["k0"], q=[1.0]))
