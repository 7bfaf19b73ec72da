"""Row numbers that follow one another in a Parquet file are made the second time; others, and changed files, are read."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
parquet = pytest.importorskip("pyarrow.parquet")

from adaptive_sampler.errors import InvalidValue  # noqa: E402
from adaptive_sampler.kernels import tally  # noqa: E402
from adaptive_sampler.selection import Prune  # noqa: E402
from adaptive_sampler.tables import plan_table  # noqa: E402
from adaptive_sampler.tables.arrow.sources import ParquetFile  # noqa: E402

INT64 = np.iinfo(np.int64)


def file_of(path: Path, rows: list[int | None], group: int = 4) -> ParquetFile:
    table = pa.table({"row": pa.array(rows, pa.int64()), "loss": np.arange(len(rows), dtype=np.float32)})
    parquet.write_table(table, path, row_group_size=group)
    file = ParquetFile(path)
    file.runs = {}
    return file


def read(file: ParquetFile, *names: str) -> list[dict[str, object]]:
    return [line for batch in file.batches(dict.fromkeys(names)) for line in batch.lines.to_pylist()]


@pytest.mark.parametrize(
    "rows",
    [
        [*range(5, 15)],
        [0, 1, 2, 3, 7, 8, 9, 10, 2],
        [3, 1, 2, 0, 4, 5, 6, 7],
        [0, 1, None, 3],
        [*range(int(INT64.max) - 9, int(INT64.max) + 1)],
        [*range(int(INT64.min), int(INT64.min) + 6)],
    ],
)
def test_a_second_reading_gives_what_the_first_one_gave(tmp_path: Path, rows: list[int | None]) -> None:
    file = file_of(tmp_path / "a.parquet", rows)
    first = read(file, "loss", "row")
    assert [line["row"] for line in first] == rows
    assert read(file, "loss", "row") == first
    assert read(file, "row", "loss") == first
    assert read(file, "row") == [{"row": row} for row in rows]


def test_runs_are_remembered_by_row_group(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.parquet", [9, 10, 11, 12, 3, 2, 1, 0, 6])
    read(file, "row")
    assert file.runs == {("row", 0): 9, ("row", 2): 6}


def test_what_is_read_in_part_is_not_remembered(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.parquet", [*range(1 << 18)], group=1 << 18)
    next(file.batches({"row": None}))
    assert file.runs == {}


def test_nothing_is_remembered_for_who_does_not_ask(tmp_path: Path) -> None:
    file_of(tmp_path / "a.parquet", [0, 1])
    file = ParquetFile(tmp_path / "a.parquet")
    read(file, "row")
    assert file.runs is None


@pytest.mark.parametrize("rows", [4, 12])
def test_a_file_that_has_other_row_groups_than_when_it_was_opened_is_told(tmp_path: Path, rows: int) -> None:
    file = file_of(tmp_path / "a.parquet", [*range(8)])
    file_of(tmp_path / "a.parquet", [*range(rows)])
    with pytest.raises(
        InvalidValue, match=rf"a.parquet changed after it was opened: it had 2 .* and now has {rows // 4}"
    ):
        read(file, "row")


@given(
    st.lists(st.integers(-3, 3) | st.sampled_from([int(INT64.min), int(INT64.max)]))
    | st.builds(range, st.integers(-9, 9))
)
def test_ascending_by_one_is_what_it_says(values: list[int]) -> None:
    values = [*values]
    wanted = all(b - a == 1 for a, b in itertools.pairwise(values))
    assert tally.ascends_by_one(np.array(values, np.int64)) == wanted


def test_the_numbers_of_a_plan_are_not_read_again_once_they_are_known_to_follow_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of(tmp_path / "a.parquet", [*range(100)], group=30)
    plan = plan_table(tmp_path, Prune(0.5, "loss"), key="row", check_keys=False)
    asked: list[list[str]] = []
    iterate = parquet.ParquetFile.iter_batches

    def noting(self: object, *arguments: object, columns: list[str], **more: object) -> object:
        asked.append(columns)
        return iterate(self, *arguments, columns=columns, **more)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noting)
    assert plan.rows(0)["key"].to_pylist() == [*range(50, 100)]
    assert asked == [["loss"]] * 4
