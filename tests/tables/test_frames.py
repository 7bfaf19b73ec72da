"""Scores as tables in memory, of PyArrow and pandas: what an export has, without the file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Forgetting, Loss
from adaptive_sampler.selection import Draw
from tests.snapshots import snapshot
from tests.storage.helpers import filled

arrow = pytest.importorskip("pyarrow", reason="tables in memory are PyArrow's")


def small(**arguments) -> ScoreStore:
    """Five rows, of which row 4 was never observed and row 0 never learned."""
    store = ScoreStore.create(None, 5, [Loss(), Forgetting()], **arguments)
    store.update([0, 1, 2, 3], loss=np.array([0.5, 1, 2, 4], np.float32), logits=np.eye(4), labels=[1, 1, 2, 3])
    return store


def test_a_table_has_rows_keys_scores_and_own_columns() -> None:
    table = small(keys=list("abcde"), columns={"source": ["x", "y", "x", "y", "x"]}).to_arrow()
    assert table.column_names == ["row", "key", "loss", "forgetting", "source"]
    assert table.column("key").to_pylist() == list("abcde")
    assert table.column("loss").to_pylist() == [0.5, 1, 2, 4, None]
    assert table.column("forgetting").to_pylist() == [np.inf, 0, 0, 0, None]


def test_a_table_is_what_an_export_reads_back_as(tmp_path: Path) -> None:
    from pyarrow import parquet

    store = filled(None, n=100, keys=[f"k{i}" for i in range(100)])
    plan = Draw("loss", 50).plan(store, epoch=0, seed=0)
    store.export(tmp_path / "it.parquet", plan=plan, state=True)
    assert store.to_arrow(plan=plan, state=True).equals(parquet.read_table(tmp_path / "it.parquet"))


def test_a_table_with_state_makes_the_same_store_again() -> None:
    store = filled(None, n=50, keys=[f"k{i}" for i in range(50)])
    again = ScoreStore.from_table(None, store.to_arrow(state=True))
    assert snapshot(again) == snapshot(store)


def test_a_frame_is_indexed_by_key_and_keeps_the_rows() -> None:
    pytest.importorskip("pandas")
    frame = small(keys=list("abcde")).to_pandas()
    assert frame.index.name == "key"
    assert frame.loc["c", "loss"] == 2
    assert frame["row"].tolist() == [0, 1, 2, 3, 4]


def test_a_frame_of_a_store_without_keys_is_indexed_by_row() -> None:
    pytest.importorskip("pandas")
    frame = small().to_pandas()
    assert (frame.index.name, frame.index.tolist()) == ("row", [0, 1, 2, 3, 4])
    assert list(frame.columns) == ["loss", "forgetting"]


def test_a_frame_keeps_nan_infinity_and_dtypes() -> None:
    pytest.importorskip("pandas")
    columns = {"small": np.arange(5, dtype=np.int16), "flag": np.arange(5) > 2, "wide": np.arange(5) / 3}
    store = small(columns=columns)
    frame = store.to_pandas()
    for name in store.names:
        assert frame[name].dtype == np.float32
        np.testing.assert_array_equal(frame[name].to_numpy(), store[name])
    for name, values in columns.items():
        assert frame[name].dtype == values.dtype
        np.testing.assert_array_equal(frame[name].to_numpy(), values)


def test_a_frame_of_a_plan_has_its_rows_repeats_and_weights() -> None:
    pytest.importorskip("pandas")
    store = filled(None, n=30)
    plan = Draw("loss", 40, unbiased=True).plan(store, epoch=0, seed=1)
    frame = store.to_pandas(plan=plan)
    assert frame.index.tolist() == plan.rows.tolist()
    np.testing.assert_array_equal(frame["repeats"], plan.repeats[plan.rows])
    np.testing.assert_array_equal(frame["loss_weight"], plan.loss_weights[plan.rows])


def test_a_frame_says_of_which_version_it_is_and_later_updates_do_not_change_it() -> None:
    pytest.importorskip("pandas")
    store = small()
    store.commit()
    frame, table = store.to_pandas(), store.to_arrow()
    store.fold("loss", [4], [9])
    assert np.isnan(frame.loc[4, "loss"])
    assert table.column("loss")[4].as_py() is None
    assert frame.attrs == {"store": str(store.path), "version": 1, "updates": 0}
    assert table.schema.metadata[b"adaptive_sampler.version"] == b"1"
    assert store.to_pandas().attrs["updates"] == 1


def test_a_store_without_scores_makes_a_table_of_rows() -> None:
    pytest.importorskip("pandas")
    assert ScoreStore.create(None, 3, []).to_pandas().shape == (3, 0)


def test_a_store_on_disk_makes_the_same_table_as_in_memory(tmp_path: Path) -> None:
    with filled(tmp_path / "s", n=300) as store:
        expected = store.to_arrow(state=True)
        store.commit()
    with ScoreStore.open(tmp_path / "s", mode="r") as reader:
        assert reader.to_arrow(state=True).equals(expected)


@pytest.mark.parametrize(
    ("missing", "call", "remedy"),
    [
        ("pyarrow", "to_arrow", 'pip install "adaptive-sampler[tables]"'),
        ("pyarrow", "to_pandas", 'pip install "adaptive-sampler[tables]" pandas'),
        ("pandas", "to_pandas", 'pip install "adaptive-sampler[tables]" pandas'),
    ],
)
def test_where_a_package_is_missing_the_remedy_is_said(missing: str, call: str, remedy: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Loss
ScoreStore.create(None, 3, [Loss()]).{call}()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: store.{call}() needs ")
    assert done.stderr.rstrip().endswith(remedy)
