"""Lists of visits, from a store and from a plan of a table: what other tools take."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="PyArrow reads plans of tables")

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreDamaged, StoreError
from adaptive_sampler.scoring import Error, Loss
from adaptive_sampler.selection import Prune, Upsample
from adaptive_sampler.tables import export_plan, plan_table
from tests.tables.planned.folders import InMemory, Line, written

UIDS = ["139e4a9b22a614771f06c700a8ebe150", "6e356964a967af455c8016b75d691203", "00000000000000000000000000000001"]
LARGE = "f" * 32


def resharder_counts(path: Path, uids: list[str]) -> list[int]:
    """How often DataComp's resharder writes each sample: it searches the sorted list for the number of 128 bits."""
    listed = np.load(path, mmap_mode="r")
    assert listed.dtype == np.dtype("u8,u8")
    found = []
    for uid in uids:
        number = np.array([divmod(int(uid, 16), 2**64)], np.dtype("u8,u8"))[0]
        first, last = (np.searchsorted(listed, number, side) for side in ("left", "right"))
        found.append(int(last - first))
    return found


def test_datacomps_resharder_finds_each_uid_as_often_as_it_is_visited(tmp_path: Path) -> None:
    plan = InMemory([Line(UIDS[1], 2), Line(LARGE)], [Line(UIDS[0].upper(), 3)])
    export_plan(plan, tmp_path / "subset.npy", uids=True)
    assert resharder_counts(tmp_path / "subset.npy", [*UIDS, LARGE]) == [3, 2, 0, 1]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 2**128 - 1), min_size=1, unique=True))
def test_uids_are_those_that_datacomps_own_lines_make(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    path = tmp_path_factory.mktemp("uids") / "subset.npy"
    uids = [f"{number:032x}" for number in numbers]
    export_plan(InMemory([Line(uid) for uid in uids]), path, uids=True)
    by_hand = np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids], np.dtype("u8,u8"))
    assert np.load(path).tolist() == np.sort(by_hand).tolist()


def test_a_store_exports_the_uids_of_a_plan(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 3, [Error()], keys=UIDS)
    store.fold("error", range(3), [0, 1, 0])
    plan = Upsample(4).plan(store, epoch=0, seed=0)
    store.export(tmp_path / "subset.npy", plan=plan, uids=True)
    assert resharder_counts(tmp_path / "subset.npy", UIDS) == [1, 4, 1]


@pytest.mark.parametrize("key", ["139e4a9b22a61477", "g" * 32, "é" * 16, UIDS[0] + "0", ""])
def test_a_key_that_is_no_uid_is_named_with_its_remedy(tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidValue, match=rf"key '{key}' is no uid.*key.zfill\(32\)"):
        export_plan(InMemory([Line(UIDS[0]), Line(key)]), tmp_path / "subset.npy", uids=True)
    assert not [*tmp_path.iterdir()]
    export_plan(InMemory([Line(UIDS[0]), Line("139e4a9b22a61477".zfill(32))]), tmp_path / "subset.npy", uids=True)


def test_row_numbers_are_no_uids(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="uids are made of text keys, and these are row numbers"):
        export_plan(InMemory([Line(3)]), tmp_path / "subset.npy", uids=True)


# -- keys ---------------------------------------------------------------------------------------------------------------


def test_a_list_of_keys_has_a_line_for_each_visit(tmp_path: Path) -> None:
    export_plan(written(tmp_path / "plan", [Line("ü b"), Line("a", 3)], [Line("c")]), tmp_path / "kept.txt")
    assert (tmp_path / "kept.txt").read_bytes().decode() == "ü b\na\na\na\nc\n"


def test_a_store_lists_the_keys_of_a_plan_or_of_all_rows(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 4, [Loss()], keys=list("dcba"))
    store.fold("loss", range(4), range(4))
    store.export(tmp_path / "kept.txt", plan=Prune(2, "loss").plan(store, epoch=0, seed=0))
    store.export(tmp_path / "all.txt")
    assert (tmp_path / "kept.txt").read_text() == "b\na\n"
    assert (tmp_path / "all.txt").read_text() == "d\nc\nb\na\n"


def test_row_numbers_are_listed_in_decimal(tmp_path: Path) -> None:
    export_plan(InMemory([Line(12, 2), Line(3)]), tmp_path / "kept.txt")
    assert (tmp_path / "kept.txt").read_text() == "12\n12\n3\n"


@pytest.mark.parametrize("key", ["a\nb", "a\r"])
def test_a_key_with_a_line_break_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(
        InvalidValue, match=r"holds a line break, and a .txt file has a line for each visit.*plan.write\(folder\)"
    ):
        export_plan(InMemory([Line(key)]), tmp_path / "kept.txt")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("name", "uids"), [("x.txt", False), ("x.npy", True)])
def test_a_store_without_keys_has_none_to_list(tmp_path: Path, name: str, uids: bool) -> None:
    with pytest.raises(StoreError, match="has no keys"):
        ScoreStore.create(None, 3, [Loss()]).export(tmp_path / name, uids=uids)


# -- rows ---------------------------------------------------------------------------------------------------------------


def test_row_numbers_stand_as_often_as_they_are_visited_in_the_plans_order(tmp_path: Path) -> None:
    export_plan(InMemory([Line(7, 2)], [], [Line(0), Line(2**40)]), tmp_path / "rows.npy")
    rows = np.load(tmp_path / "rows.npy")
    assert rows.dtype == np.int64
    assert rows.tolist() == [7, 7, 0, 2**40]


def test_a_store_exports_the_rows_of_a_plan_as_often_as_they_are_visited(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 5, [Error()])
    store.fold("error", range(5), [0, 0, 1, 0, 0])
    plan = Upsample(3).plan(store, epoch=0, seed=0)
    store.export(tmp_path / "rows.npy", plan=plan)
    assert np.load(tmp_path / "rows.npy").tolist() == plan.indices().tolist() == [0, 1, 2, 2, 2, 3, 4]


def test_lance_takes_the_rows_of_a_plan_as_often_as_they_are_visited(tmp_path: Path) -> None:
    """In a process of its own: once imported, lance warns of every fork, and other tests fork."""
    if find_spec("lance") is None:
        pytest.skip("pylance is not installed: it is large, and no extra has it")
    export_plan(written(tmp_path / "plan", [Line(2), Line(6)], [Line(7, 3), Line(19)]), tmp_path / "rows.npy")
    code = """
import lance, numpy as np, pyarrow as pa
lines = pa.table({"name": [f"sample {row}" for row in range(20)]})
dataset = lance.write_dataset(lines, "data.lance", max_rows_per_file=7)
print(dataset.take(np.load("rows.npy"), columns=["name"])["name"].to_pylist())
"""
    taken = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert taken.stdout.strip() == str([f"sample {row}" for row in (2, 6, 7, 7, 7, 19)])


def test_keys_that_are_text_are_no_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"key 'a': a .npy file has row numbers, and the table was planned by keys"):
        export_plan(InMemory([Line("a")]), tmp_path / "rows.npy")


def test_keys_that_are_text_are_told_also_where_the_first_lines_are_not_visited(tmp_path: Path) -> None:
    low, high = (pa.table({"id": [name], "loss": [loss]}) for name, loss in (("a", 1.0), ("b", 2.0)))
    plan = plan_table(pa.concat_tables([low, high]), Prune(0.5, "loss"), key="id")
    with pytest.raises(InvalidValue, match=r"key 'b': a .npy file has row numbers"):
        export_plan(plan, tmp_path / "rows.npy")


# -- files --------------------------------------------------------------------------------------------------------------


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"x.csv: a list of visits is a .txt or .npy file"):
        export_plan(InMemory([Line("a")]), tmp_path / "x.csv")
    for name in ("x.txt", "x.csv"):
        with pytest.raises(InvalidValue, match=r"uids=True writes what DataComp reads, a .npy file"):
            ScoreStore.create(None, 1, [Loss()], keys=UIDS[:1]).export(tmp_path / name, uids=True)


def test_nothing_is_written_of_a_plan_that_is_damaged(tmp_path: Path) -> None:
    folder = written(tmp_path / "plan", [Line("a")], [Line("b", 2)])
    (folder / "00000001.parquet").write_bytes((folder / "00000000.parquet").read_bytes())
    with pytest.raises(StoreDamaged, match="was written with 1 rows and 2 samples"):
        export_plan(folder, tmp_path / "kept.txt")
    assert not (tmp_path / "kept.txt").exists()
