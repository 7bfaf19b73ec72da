"""Exports: rows, keys, repeats, weights and scores as files that other tools read."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Forgetting, Loss, Variability
from adaptive_sampler.selection import Prune
from adaptive_sampler.tables import blocks
from tests.storage.helpers import filled

ENDINGS = [".parquet", ".feather", ".arrow", ".csv"]


def table(path: Path):
    """The table in a file that was exported, as PyArrow reads it."""
    pytest.importorskip("pyarrow", reason="PyArrow writes and reads these files")
    from pyarrow import csv as text
    from pyarrow import feather, parquet

    return {".parquet": parquet.read_table, ".csv": text.read_csv}.get(path.suffix, feather.read_table)(path)


def exported(store: ScoreStore, path: Path, **arguments):
    if path.suffix != ".csv":
        pytest.importorskip("pyarrow", reason="PyArrow writes these files")
    store.export(path, **arguments)
    return table(path)


def test_a_csv_export_has_rows_keys_repeats_weights_and_scores_in_order(tmp_path: Path) -> None:
    store = filled(None, n=5, keys=list("abcde"))
    plan = Prune(2, "loss").plan(store, epoch=0, seed=0)
    store.export(tmp_path / "kept.csv", plan=plan)
    with open(tmp_path / "kept.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["key"], line["repeats"], line["loss_weight"], line["loss"]) for line in lines] == [
        ("3", "d", "1", "1.0", "3.0"),
        ("4", "e", "1", "1.0", "4.0"),
    ]


def test_an_npy_export_is_the_rows(tmp_path: Path) -> None:
    store = filled(None)
    plan = Prune(0.1, "loss").plan(store, epoch=0, seed=0)
    store.export(tmp_path / "kept.npy", plan=plan)
    assert np.load(tmp_path / "kept.npy").tolist() == list(range(90, 100))


def test_a_csv_export_without_a_plan_has_every_row_and_blank_where_never_observed(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 3, [Loss()])
    store.fold("loss", [1], [2.5])
    store.export(tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().split() == [
        "row,repeats,loss_weight,loss",
        "0,1,1.0,",
        "1,1,1.0,2.5",
        "2,1,1.0,",
    ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_plain_columns_are_the_same_in_every_format(tmp_path: Path, ending: str) -> None:
    store = filled(None, n=5, keys=list("abcde"))
    plan = Prune(2, "loss").plan(store, epoch=0, seed=0)
    found = exported(store, tmp_path / f"kept{ending}", plan=plan, state=False)
    assert found.column_names == ["row", "key", "repeats", "loss_weight", *store.names]
    assert found.column("row").to_pylist() == [3, 4]
    assert found.column("key").to_pylist() == ["d", "e"]
    assert found.column("loss").to_pylist() == [3, 4]


@pytest.mark.parametrize("ending", ENDINGS[:-1])
def test_a_score_that_was_never_observed_is_null_and_not_nan(tmp_path: Path, ending: str) -> None:
    store = ScoreStore.create(None, 3, [Loss()])
    store.fold("loss", [1], [2.5])
    assert exported(store, tmp_path / f"all{ending}").column("loss").to_pylist() == [None, 2.5, None]


def test_a_file_with_types_says_how_often_and_when_each_row_was_observed(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 2, [Loss()])
    store.fold("loss", [1, 1], [2, 3], epoch=4)
    found = exported(store, tmp_path / "all.parquet")
    assert found.column_names == ["row", "repeats", "loss_weight", "loss", "loss/count", "loss/last_seen"]
    assert found.column("loss/count").to_pylist() == [0, 2]
    assert found.column("loss/last_seen").to_pylist() == [-1, 4]


def test_a_fold_whose_score_does_not_tell_its_state_adds_its_columns_last(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 2, [Variability(), Loss()])
    names = exported(store, tmp_path / "all.parquet").column_names
    assert names[3:] == [
        *("variability", "loss"),
        *("variability/count", "variability/last_seen", "variability/mean", "variability/m2"),
        *("loss/count", "loss/last_seen"),
    ]


def test_a_score_that_is_named_as_another_column_has_a_column_that_nothing_else_is_named(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 2, [Loss(name="row"), Loss(name="key")], keys=["a", "b"])
    store.fold("row", [1], [7.0])
    found = exported(store, tmp_path / "all.parquet")
    assert len(set(found.column_names)) == len(found.column_names)
    assert found.column("row").to_pylist() == [0, 1]
    assert found.column("score:row").to_pylist() == [None, 7]


@pytest.mark.parametrize("ending", ENDINGS)
def test_blocks_and_chunks_leave_no_seam(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "AT_ONCE", 7)
    store = filled(None, n=50, keys=[f"key {i}" for i in range(50)])
    plan = Prune(20, "loss", order="lowest").plan(store, epoch=0, seed=0)
    for chosen, rows in ((None, range(50)), (plan, range(20))):
        found = exported(store, tmp_path / f"x{ending}", plan=chosen)
        assert found.column("row").to_pylist() == [*rows]
        assert found.column("key").to_pylist() == [f"key {i}" for i in rows]
        assert found.column("loss").to_pylist() == [float(i) for i in rows]


def test_row_groups_have_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="PyArrow writes Parquet")
    from pyarrow import parquet

    from adaptive_sampler.tables.arrow import files

    monkeypatch.setattr(blocks, "AT_ONCE", 10)
    monkeypatch.setattr(files, "GROUP", 30)
    filled(None, n=100).export(tmp_path / "x.parquet")
    about = parquet.ParquetFile(tmp_path / "x.parquet").metadata
    assert [about.row_group(i).num_rows for i in range(about.num_row_groups)] == [30, 30, 30, 10]


@pytest.mark.parametrize("key", ["", "two\nlines", 'a "quote", a comma', "a\rreturn", "nul\0", "ümlaut", "NA"])
@pytest.mark.parametrize("ending", [".parquet", ".feather"])
def test_any_key_is_written_as_it_is(tmp_path: Path, key: str, ending: str) -> None:
    store = ScoreStore.create(None, 3, [Loss()], keys=["first", key, "last"])
    assert exported(store, tmp_path / f"x{ending}").column("key").to_pylist() == ["first", key, "last"]


def test_repeats_and_weights_are_those_of_the_plan(tmp_path: Path) -> None:
    from adaptive_sampler.selection import Draw

    store = filled(None, n=20)
    plan = Draw("loss", unbiased=True).plan(store, epoch=0, seed=0)
    found = exported(store, tmp_path / "x.parquet", plan=plan)
    assert found.column("row").to_pylist() == plan.rows.tolist()
    assert found.column("repeats").to_pylist() == plan.repeats_of(plan.rows).tolist()
    assert found.column("loss_weight").to_pylist() == plan.loss_weights_of(plan.rows).tolist()


def test_an_export_reads_what_a_hook_still_holds(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 2, [Loss()])

    class Hook:
        def flush(self) -> None:
            store.session.fold_values(np.array([1]), {"loss": np.array([5.0])}, epoch=0)

    hook = Hook()
    store.session.register(hook)
    store.export(tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().splitlines()[-1] == "1,1,1.0,5.0"


def test_pandas_reads_an_export_without_a_word(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    store = ScoreStore.create(None, 3, [Loss(), Forgetting()])
    store.fold("loss", [1], [2.5])
    exported(store, tmp_path / "x.parquet", state=False)
    frame = pandas.read_parquet(tmp_path / "x.parquet")
    assert [*frame.columns] == ["row", "repeats", "loss_weight", "loss", "forgetting"]
    assert np.array_equal(frame["loss"], store["loss"], equal_nan=True)


# -- what goes wrong ----------------------------------------------------------------------------------------------------


def test_an_export_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"kept\.xls: export writes .*, \.csv, \.txt or \.npy"):
        filled(None).export(tmp_path / "kept.xls")


def test_a_list_of_visits_has_no_state(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"kept\.npy is a list of visits, without state"):
        filled(None).export(tmp_path / "kept.npy", state=True)


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_an_export_that_breaks_off_leaves_the_file_that_was_there(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="PyArrow writes Parquet")
    store, path = filled(None, n=5), tmp_path / f"x{ending}"
    path.write_bytes(b"what was there")
    monkeypatch.setattr(blocks, "_visits", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.export(path)
    assert path.read_bytes() == b"what was there"
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_that_is_not_there_is_told_by_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        filled(None).export(tmp_path / "nowhere" / "x.csv")


def test_csv_and_npy_need_no_pyarrow_and_the_others_name_the_extra(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["pyarrow"] = None
from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Loss
store = ScoreStore.create("memory://s", 3, [Loss()])
store.export("x.csv", state=True), store.export("x.npy"), store.export("x.parquet")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert 'pip install "adaptive-sampler[tables]"' in done.stderr.splitlines()[-1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.csv", "x.npy"]
