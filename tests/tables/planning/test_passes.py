"""What a plan tells of its passes over the table, and which passes it spares."""

import numpy as np
import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import Draw, KeepAll, Prune

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
parquet = pytest.importorskip("pyarrow.parquet")

from adaptive_sampler.tables import plan_table  # noqa: E402
from adaptive_sampler.tables.planning import lines, partitions  # noqa: E402
from adaptive_sampler.tables.planning.engines import ThreadsEngine  # noqa: E402

TABLE = pa.table(
    {"id": [*range(40)], "loss": np.arange(40, dtype=np.float32), "part": [f"part-{i % 3}" for i in range(40)]}
)
DRAW = Draw("loss", 30)


def told(plan):
    return [one.name for one in plan.passes]


def test_each_pass_tells_its_name_its_seconds_and_that_threads_receive_nothing():
    plan = plan_table(TABLE, Prune(0.5, "loss"), key="id", check_keys=False)
    assert told(plan) == ["count groups", "list near"]
    assert all(one.seconds > 0 and one.received == 0 for one in plan.passes)


def test_writing_is_a_pass_too(tmp_path):
    plan = plan_table(TABLE, KeepAll(), key="id", check_keys=False)
    plan.write(tmp_path / "plan")
    assert told(plan) == ["count visits", "write"]


def test_the_lines_of_a_draw_with_replacement_are_counted_when_they_are_asked_for_and_once():
    plan = plan_table(TABLE, DRAW, key="id", check_keys=False)
    assert "count visits" not in told(plan)
    assert "some of 40 lines, 30 samples" in repr(plan)
    assert plan.num_rows == plan.num_rows == len(plan.rows(0))
    assert told(plan).count("count visits") == 1
    assert f"{plan.num_rows} of 40 lines" in repr(plan)


def test_writing_counts_the_lines_of_a_draw(tmp_path):
    plan = plan_table(TABLE, DRAW, key="id", check_keys=False)
    plan.write(tmp_path / "plan")
    assert plan.num_rows == len(plan.rows(0))
    assert "count visits" not in told(plan)


def test_a_parquet_file_gives_its_texts_as_the_dictionary_that_they_lie_in(tmp_path, monkeypatch):
    path, types = tmp_path / "a.parquet", []
    parquet.write_table(TABLE, path)
    monkeypatch.setattr(lines.LabelReader, "__call__", _noting(types, lines.LabelReader.__call__))
    policy = Prune(0.5, "loss", per_group="part")
    assert plan_table(path, policy, key="id").id == plan_table(TABLE, policy, key="id").id
    assert {*map(str, types)} == {"dictionary<values=string, indices=int32, ordered=0>", "string"}


def _noting(types, read):
    def reading(self, array):
        types.append(array.type)
        return read(self, array)

    return reading


def test_a_dictionary_that_changes_between_batches_is_read_anew():
    parts = [["a", "b", "a"], ["b", "a", "b"], ["a", "b", None], ["c", "a", "a"]]
    read, found = lines.LabelReader(), []
    for part in parts[:2] + parts[3:]:
        codes, labels = read(pa.array(part).dictionary_encode())
        found.append([labels[code] for code in codes])
    assert found == parts[:2] + parts[3:]
    with pytest.raises(lines.arrow.Fault, match="is null"):
        read(pa.array(parts[2]).dictionary_encode())


def test_a_large_file_is_read_in_parts_of_its_row_groups_but_by_what_asks_for_whole_partitions(tmp_path, monkeypatch):
    parquet.write_table(TABLE, tmp_path / "a.parquet", row_group_size=7)  # six row groups
    monkeypatch.setattr(partitions, "LEAST", (tmp_path / "a.parquet").stat().st_size // 3)
    table = partitions.Partitions(tmp_path, ThreadsEngine(1))
    assert table.run(numbers_in, (), partitions.joined) == [[*range(14)], [*range(14, 28)], [*range(28, 40)]]
    assert table.run(numbers_in, (), partitions.joined, whole=True) == [[*range(40)]]


def test_a_plan_of_a_file_that_is_read_in_parts_is_that_of_the_table(tmp_path, monkeypatch):
    parquet.write_table(TABLE, tmp_path / "a.parquet", row_group_size=7)
    monkeypatch.setattr(partitions, "LEAST", 1)
    plan, in_parts = plan_table(TABLE, DRAW, key="id"), plan_table(tmp_path / "a.parquet", DRAW, key="id")
    assert in_parts.id == plan.id
    assert in_parts.rows(0) == plan.rows(0)


def test_a_bad_line_of_a_file_that_is_read_in_parts_is_named_with_its_row_group(tmp_path, monkeypatch):
    losses = np.arange(40, dtype=np.float64)
    losses[30] = 1e300
    parquet.write_table(TABLE.set_column(1, "loss", pa.array(losses)), tmp_path / "a.parquet", row_group_size=7)
    monkeypatch.setattr(partitions, "LEAST", 1)
    with pytest.raises(InvalidValue, match=r"a\.parquet, row group 4, line 2 "):
        plan_table(tmp_path / "a.parquet", Prune(0.5, "loss"), key="id")


def numbers_in(share):
    asked = lines.AskedColumns(key="id")
    return [[batch.names.at(i) for batch in lines.lines_of(share.pieces, asked) for i in range(batch.length)]]
