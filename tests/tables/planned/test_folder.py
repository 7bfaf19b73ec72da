"""The folder of a plan is read in bounded memory, and what is not as it was written is refused."""

import json
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="PyArrow reads these files")

from adaptive_sampler.errors import InvalidValue, StoreDamaged
from adaptive_sampler.tables import PlanFolder, PlannedKeys
from tests.tables.planned.folders import InMemory, Line, table, written

LINES = [Line("a"), Line("b", 3, 0.5)], [], [Line("ü", 2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "plan", *LINES)


def test_a_folder_tells_what_its_manifest_tells(folder: Path) -> None:
    plan = PlanFolder(folder)
    assert (plan.id, plan.policy, plan.seed, plan.epoch) == ("0123456789abcdef", {"kind": "Prune"}, 7, 2)
    assert (plan.key, plan.num_lines, plan.num_rows, plan.num_samples) == ("uid", 9, 3, 6)
    assert plan.partitions == ["source-0", "source-1", "source-2"]


@pytest.mark.parametrize("partition", [0, 1, 2])
def test_the_rows_of_a_partition_are_those_that_were_written(folder: Path, partition: int) -> None:
    assert PlanFolder(folder).rows(partition).equals(table(LINES[partition]))


def test_the_batches_of_a_partition_are_its_rows(folder: Path) -> None:
    batches = [*PlanFolder(folder).batches(0)]
    assert [key for batch in batches for key in batch.column("key").to_pylist()] == ["a", "b"]


@pytest.mark.parametrize("partition", [-1, 3, "0"])
def test_a_partition_that_there_is_not_is_refused(folder: Path, partition: int) -> None:
    with pytest.raises(InvalidValue, match=r"partition=.*: the number of a partition, 0 or more, 2 at most"):
        PlanFolder(folder).rows(partition)


def test_a_place_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"there is no such folder. Pass the folder that plan.write\(folder\) made"):
        PlanFolder(tmp_path / "nowhere")
    with pytest.raises(InvalidValue, match=r"the folder has no manifest.json"):
        PlanFolder(tmp_path)


def test_a_manifest_of_a_newer_format_is_refused(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 9}))
    with pytest.raises(InvalidValue, match=r"has format 9; this adaptive-sampler reads up to 1. Upgrade"):
        PlanFolder(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "id": 3}', '{"format": null}'])
def test_a_manifest_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(StoreDamaged, match=r"manifest.json is not as it was written .*Write the plan again"):
        PlanFolder(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "x"),
        ("seed", -1),
        ("rows", 2),
        ("partitions", []),
        ("partitions", [{"name": "a", "file": "00000000.parquet", "rows": -1, "samples": 0}]),
        ("partitions", [{"name": "a", "file": "../plan/00000000.parquet", "rows": 3, "samples": 6}]),
    ],
    ids=["id", "seed", "sum", "no partition", "negative", "outside"],
)
def test_a_manifest_with_a_value_that_cannot_be_is_refused(folder: Path, name: str, value: object) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {name: value}))
    with pytest.raises(StoreDamaged, match="is not as it was written"):
        PlanFolder(folder)


def test_a_folder_that_lacks_a_file_is_refused_when_it_is_opened(folder: Path) -> None:
    (folder / "00000001.parquet").unlink()
    with pytest.raises(StoreDamaged, match=r"00000001.parquet is not there.*Write the plan again"):
        PlanFolder(folder)


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(folder: Path, left: int) -> None:
    file = folder / "00000000.parquet"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(StoreDamaged, match=r"00000000.parquet.*Write the plan again"):
        PlanFolder(folder).rows(0)
    with pytest.raises(StoreDamaged, match=r"00000000.parquet.*Write the plan again"):
        PlannedKeys(folder)


def test_bytes_that_changed_are_refused_or_read_as_they_were(folder: Path) -> None:
    """Parquet keeps no checksum of its own, but a damaged page does not decompress, or has other counts."""
    file = folder / "00000000.parquet"
    good = file.read_bytes()
    refused = 0
    for at in range(4, len(good), 7):
        file.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        try:
            assert set(PlanFolder(folder).rows(0).column_names) == {"key", "repeats", "weight"}
        except StoreDamaged:
            refused += 1
    assert refused > 20


def test_a_file_of_other_lines_than_the_manifest_says_is_refused(folder: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other", [Line("a"), Line("b")])
    (folder / "00000000.parquet").write_bytes((other / "00000000.parquet").read_bytes())
    wrong = r"00000000.parquet has 2 rows and 2 samples, and was written with 2 rows and 4 samples"
    with pytest.raises(StoreDamaged, match=wrong):
        PlanFolder(folder).rows(0)
    with pytest.raises(StoreDamaged, match=wrong):
        PlannedKeys(folder)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (Line("a", 0), "a line that is visited 0 times"),
        (Line("a", 1, float("nan")), "a loss weight that is not finite"),
        (Line("a", 1, float("inf")), "a loss weight that is not finite"),
        (Line(-1), "row -2, which is negative"),
        (Line(None), "key is null"),
    ],
    ids=["0 times", "nan", "inf", "negative", "null"],
)
def test_lines_that_no_plan_has_are_refused(tmp_path: Path, line: Line, wrong: str) -> None:
    with pytest.raises(StoreDamaged, match=rf"00000000.parquet.*{wrong}.*Write the plan again"):
        PlannedKeys(written(tmp_path / "plan", [line, Line(line.key and 2 * line.key, 2)]))


def test_partitions_with_keys_of_two_kinds_are_refused() -> None:
    with pytest.raises(StoreDamaged, match=r"the plan of source-1: its keys are int64.*all text, or all row numbers"):
        PlannedKeys(InMemory([Line("a")], [Line(1)]))
