"""What a plan over a table says of itself, and the folder that it is written to."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import KeepAll, Prune, RandomPrune, Threshold, Upsample, Window
from adaptive_sampler.tables import plan_table

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
from pyarrow import csv, feather, parquet  # noqa: E402

from tests.tables.planning.oracle import cut  # noqa: E402

LOSS = [3.0, 1.0, 2.0, 2.0, 5.0, 2.0, np.nan, 4.0]
TABLE = pa.table({"id": [*"abcdefgh"], "loss": pa.array(LOSS, pa.float32())})
PARTS = cut(TABLE, [3, 3, 6])


def planned(policy, source=PARTS, **arguments):
    return plan_table(source, policy, key="id", **arguments)


# -- what it says of itself ---------------------------------------------------------------------------------------------


def test_threshold_and_ties_are_those_of_the_cut():
    highest, lowest = planned(Prune(0.5, "loss")), planned(Prune(3, "loss", order="lowest"))
    assert (highest.threshold, highest.ties) == (3.0, 1)  # with the one that nobody observed: 3, 4, 5
    assert (lowest.threshold, lowest.ties) == (2.0, 3)  # one of the three 2 is in
    assert planned(Window(4, 1, "loss")).threshold == (2.0, 3.0)
    assert planned(Window(4, 1, "loss")).ties == (3, 1)


def test_a_plan_without_a_cut_by_a_score_has_no_threshold():
    for policy in (KeepAll(), RandomPrune(0.5), Upsample(2, "loss"), Prune(1.0, "loss")):
        assert planned(policy).threshold is planned(policy).ties is None
    assert planned(Threshold(2, "loss")).threshold == 2
    assert planned(Prune(0.5, "loss") & RandomPrune(0.9)).threshold == (3.0, None)


def test_an_id_is_that_of_policy_seed_epoch_and_rows_whatever_the_partitions_are():
    at = {"policy": Prune(4, "loss", order="lowest"), "seed": 1}
    same = {planned(**at).id, planned(**at, source=TABLE).id, planned(**at, source=PARTS[::-1]).id}
    assert len(same) == 1
    others = [planned(**at, epoch=1), planned(Prune(4, "loss"), seed=1), planned(Prune(4, "loss", order="lowest"))]
    assert len(same | {plan.id for plan in others}) == 4


def test_rows_and_lines_come_in_the_order_of_the_partition():
    plan = planned(Upsample(2, "loss") & Threshold(2.5, "loss"))
    assert [plan.rows(number)["key"].to_pylist() for number in range(4)] == [["a"], [], ["e"], ["g", "h"]]
    assert plan.rows(3)["repeats"].to_pylist() == [1, 2]
    assert [plan.lines(number).tolist() for number in range(4)] == [[0, 0], [], [1, 1], [0, 1, 1]]
    assert plan.lines(1).dtype == np.int64


def test_tables_are_the_rows_of_all_partitions_in_order():
    plan = planned(Upsample(2, "loss"))
    assert [table.to_pylist() for table in plan.tables()] == [plan.rows(number).to_pylist() for number in range(4)]
    assert len(next(plan.tables())) == 3  # whoever wants no more is not made to wait


def test_tables_raise_for_a_file_that_has_changed(tmp_path):
    parquet.write_table(TABLE, tmp_path / "a.parquet")
    plan = planned(KeepAll(), source=tmp_path)
    parquet.write_table(TABLE.slice(1), tmp_path / "a.parquet")
    with pytest.raises(InvalidValue, match="changed while a plan was made"):
        [*plan.tables()]


def test_row_numbers_stay_numbers():
    rows = plan_table(pa.table({"row": [5, 3], "loss": [1.0, 2.0]}), Prune(0.5, "loss"), key="row").rows(0)
    assert rows.schema.names == ["key", "repeats", "weight"]
    assert rows.to_pylist() == [{"key": 3, "repeats": 1, "weight": 1.0}]


@pytest.mark.parametrize("partition", [4, -1, "0"])
def test_a_partition_that_is_none_is_told(partition):
    with pytest.raises(InvalidValue, match="partition="):
        planned(KeepAll()).rows(partition)


# -- the folder ---------------------------------------------------------------------------------------------------------


def test_a_written_plan_has_a_file_for_each_partition_and_a_manifest(tmp_path):
    plan = planned(Upsample(2, "loss") & Threshold(2.5, "loss"), seed=3, epoch=2)
    plan.write(tmp_path / "plan")
    manifest = json.loads((tmp_path / "plan" / "manifest.json").read_text())
    assert sorted(os.listdir(tmp_path / "plan")) == [*(f"0000000{n}.parquet" for n in range(4)), "manifest.json"]
    for number, partition in enumerate(manifest["partitions"]):
        found = parquet.read_table(tmp_path / "plan" / partition["file"])
        assert found.equals(plan.rows(number))
        assert (partition["rows"], partition["samples"]) == (len(found), sum(found["repeats"].to_pylist()))
        assert partition["name"] == plan.partitions[number]
    told = {name: manifest[name] for name in ("format", "id", "seed", "epoch", "key", "lines", "rows", "samples")}
    assert told == {"format": 1, "id": plan.id, "seed": 3, "epoch": 2, "key": "id", "lines": 8, "rows": 4, "samples": 7}
    assert manifest["policy"]["kind"] == "Composed"


def test_the_manifest_says_what_the_files_were(tmp_path):
    path = tmp_path / "scores.parquet"
    parquet.write_table(TABLE, path)
    planned(KeepAll(), path).write(tmp_path / "plan")
    (partition,) = json.loads((tmp_path / "plan" / "manifest.json").read_text())["partitions"]
    assert (partition["size"], partition["mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)


def test_an_empty_folder_is_written_to_and_no_other(tmp_path):
    folder = tmp_path / "plan"
    folder.mkdir()
    planned(KeepAll()).write(folder)
    before = sorted(os.listdir(folder))
    with pytest.raises(InvalidValue, match="is there already, and is not an empty folder"):
        planned(Prune(0.5, "loss")).write(folder)
    with pytest.raises(InvalidValue, match="is there already"):
        planned(KeepAll()).write(folder / "manifest.json")
    assert sorted(os.listdir(folder)) == before
    assert os.listdir(tmp_path) == ["plan"]


def test_a_plan_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    from adaptive_sampler.tables.planning import writing

    def full(path, batches, schema):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_lines", full)
    with pytest.raises(OSError, match="No space left"):
        planned(KeepAll()).write(tmp_path / "plan")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_none_is_named():
    with pytest.raises(InvalidValue, match="folder=None: the path of the folder to write"):
        planned(KeepAll()).write(None)


def test_of_two_writers_the_second_one_is_refused_as_if_it_had_come_later(tmp_path, monkeypatch):
    from adaptive_sampler.tables.planning import writing

    check, folder = writing._check_free, tmp_path / "plan"

    def faster(path):  # another writer is done between the last check and the rename
        check(path)
        monkeypatch.setattr(writing, "_check_free", check)
        planned(KeepAll()).write(folder)

    with pytest.raises(InvalidValue, match="plan is there already"), writing.new_folder(folder):
        monkeypatch.setattr(writing, "_check_free", faster)
    assert os.listdir(tmp_path) == ["plan"]
    assert sorted(os.listdir(folder))[-1] == "manifest.json"


WRITE = """
import os, signal, sys
import pyarrow as pa
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.tables import plan_table
from adaptive_sampler.tables.planning import writing

def stop(*_):
    print("writing", flush=True)
    signal.pause()

writing.write_lines = stop
plan_table(pa.table({"id": ["a"]}), KeepAll(), key="id").write(sys.argv[1])
"""


def test_what_a_killed_writer_left_is_deleted_by_the_next_and_what_a_living_one_writes_is_not(tmp_path):
    command = [sys.executable, "-c", WRITE, str(tmp_path / "plan")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "writing\n"
        (left,) = os.listdir(tmp_path)
        planned(KeepAll()).write(tmp_path / "plan")
        assert sorted(os.listdir(tmp_path)) == ["plan", left]
        os.kill(other.pid, signal.SIGKILL)
    shutil.rmtree(tmp_path / "plan")
    planned(KeepAll()).write(tmp_path / "plan")
    assert os.listdir(tmp_path) == ["plan"]


def test_a_writer_that_ends_while_another_one_looks_for_leftovers_keeps_its_folder(tmp_path, monkeypatch):
    from adaptive_sampler.tables.planning import writing

    other = tmp_path / f"plan.0123abcd{writing.PARTIAL}"
    other.mkdir()
    (other / "writer").touch()
    lock = writing.fcntl.lockf

    def ends(*arguments):
        (other / "writer").unlink(missing_ok=True)  # then it frees the lock, then it renames the folder
        return lock(*arguments)

    monkeypatch.setattr(writing.fcntl, "lockf", ends)
    planned(KeepAll()).write(tmp_path / "plan")
    assert sorted(os.listdir(tmp_path)) == ["plan", other.name]


def test_a_folder_that_this_process_writes_is_no_leftover_by_another_path_either(tmp_path):
    from adaptive_sampler.tables.planning import writing

    (tmp_path / "link").symlink_to(tmp_path)
    with writing.new_folder(tmp_path / "plan") as unfinished:
        planned(KeepAll()).write(tmp_path / "link" / "plan")
        shutil.rmtree(tmp_path / "plan")
        assert unfinished.is_dir()


def test_a_place_that_is_no_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        planned(KeepAll()).write(tmp_path / "file" / "plan")


# -- kinds of tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".csv"])
@pytest.mark.parametrize("key", ["id", "row"])
def test_files_of_every_kind_make_the_same_plan(tmp_path, ending, key):
    whole = TABLE.append_column("row", pa.array(range(8))).append_column("group", pa.array([*"aabbaabb"]))
    policy = Prune(0.5, "loss", per_group="group") & RandomPrune(0.8)
    wanted = plan_table(whole, policy, key=key)
    for number, part in enumerate(cut(whole, [3])):
        write(tmp_path / f"{number}{ending}", part)
    found = plan_table(tmp_path, policy, key=key)
    assert found.id == wanted.id
    assert [row for number in range(2) for row in found.rows(number).to_pylist()] == wanted.rows(0).to_pylist()


def write(path, table):
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        feather.write_feather(table, path)


def test_a_thousand_small_tables_make_the_plan_of_one():
    one = pa.table({"id": range(3000), "loss": np.arange(3000) % 7})
    small = plan_table(cut(one, [*range(3, 3000, 3)]), Prune(0.4, "loss"), key="id")
    assert small.id == plan_table(one, Prune(0.4, "loss"), key="id").id
    assert sum(len(small.lines(number)) for number in range(0, 1000, 100)) <= 30
