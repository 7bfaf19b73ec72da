"""The types that columns of a table come in, which differ between its partitions, make no difference to a plan."""

import os

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll, Prune, RandomPrune
from adaptive_sampler.tables import PlannedKeys, plan_table

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
from pyarrow import parquet  # noqa: E402

ABOVE_HALF = 2**54 + 2**30 + 1  # between two float32 a little above the middle, and as float64 just in the middle
ABOVE = np.array([ABOVE_HALF]).astype(np.float32)[0]


def names(array):
    return pa.table({"id": array, "loss": pa.array([1, 2, 3], pa.float32())})


def test_integers_beside_a_null_are_rounded_as_integers_without_one():
    table = pa.table({"id": [*"abcd"], "loss": pa.array([2**54, ABOVE_HALF, 5, None], pa.int64())})
    plans = [plan_table(source, Prune(2, "loss"), key="id") for source in (table, [table.slice(0, 3), table.slice(3)])]
    assert plans[0].threshold == plans[1].threshold == ABOVE
    store = ScoreStore.from_table(None, table, {"loss": Loss()}, key="id")
    assert store["loss"][1] == ABOVE


def test_dictionaries_of_small_tables_may_be_too_large_together_for_their_indices():
    tables = [
        pa.table(
            {
                "id": [f"{number}-{line}" for line in "ab"],
                "loss": pa.array([0, 1], pa.float32()),
                "group": pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int8()), [f"group {number}"]),
            }
        )
        for number in range(200)
    ]
    plan = plan_table(tables, Prune(0.5, "loss", per_group="group"), key="id")
    assert plan.num_rows == 200
    assert plan.rows(199)["key"].to_pylist() == ["199-b"]


def test_one_table_may_allow_nulls_and_another_not():
    table = names(pa.array([*"abc"]))
    strict = names(pa.array([*"def"])).cast(
        pa.schema([pa.field("id", pa.string(), nullable=False), table.schema.field("loss")])
    )
    assert plan_table([table, strict], Prune(0.5, "loss"), key="id").num_rows == 3


def test_keys_are_categories_of_polars_too():
    categories = pa.DictionaryArray.from_arrays(pa.array([2, 0, 1], pa.uint32()), pa.array([*"abc"], pa.string_view()))
    plan = plan_table(names(categories), Prune(2, "loss"), key="id")
    assert plan.rows(0)["key"].to_pylist() == ["a", "b"]
    assert PlannedKeys(plan).repeats(categories).tolist() == [0, 1, 1]
    assert ScoreStore.from_table(None, names(categories), {"loss": Loss()}, key="id").key(0) == "c"


def test_a_null_in_the_dictionary_of_keys_is_told():
    keys = pa.DictionaryArray.from_arrays([0, 1, 2], pa.array(["a", None, "c"]))
    with pytest.raises(InvalidValue, match=r"line 1 .*: id is null"):
        plan_table(names(keys), KeepAll(), key="id")


# -- folders ------------------------------------------------------------------------------------------------------------


def test_an_ending_in_capitals_is_that_ending(tmp_path):
    parquet.write_table(names(pa.array([*"abc"])), tmp_path / "one.parquet")
    parquet.write_table(names(pa.array([*"def"])), tmp_path / "TWO.PARQUET")
    assert plan_table(tmp_path, KeepAll(), key="id").num_lines == 6


def test_a_folder_within_a_folder_is_told_with_a_remedy_that_works(tmp_path):
    for folder in ("x.parquet", "y.parquet"):
        os.mkdir(tmp_path / folder)
        parquet.write_table(names(pa.array([f"{folder}-{i}" for i in range(3)])), tmp_path / folder / "0.parquet")
    with pytest.raises(InvalidValue, match=r"x\.parquet is a folder within a folder. Pass a list of the folders"):
        plan_table(tmp_path, KeepAll(), key="id")
    assert plan_table([tmp_path / "x.parquet", tmp_path / "y.parquet"], KeepAll(), key="id").num_lines == 6


def test_a_file_that_is_none_is_told_with_a_remedy_that_works(tmp_path):
    parquet.write_table(names(pa.array([*"abc"])), tmp_path / "0.parquet")
    (tmp_path / "1.parquet").write_bytes(b"")
    with pytest.raises(InvalidValue, match=r"1\.parquet is no .parquet file.* Write it again, or leave it out"):
        plan_table(tmp_path, RandomPrune(0.5), key="id")
    assert plan_table([tmp_path / "0.parquet"], RandomPrune(0.5), key="id").num_rows == 2
