"""plan_table(engine="ray"): the plan that the threads of one process make, whatever happens to workers."""

import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray.data
from pyarrow import parquet

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Draw, Prune, RandomPrune, Upsample
from adaptive_sampler.tables import plan_table
from adaptive_sampler.tables.planning import partitions
from adaptive_sampler.tables.planning import ray as planning_ray
from adaptive_sampler.tables.planning.ray import FAN, RayEngine

pytestmark = pytest.mark.usefixtures("cluster")

N, PARTS = 1000, FAN + 3
POLICIES = {
    "prune": Prune(0.5, "loss"),
    "groups": Prune(0.3, "loss", per_group="source"),
    "random": RandomPrune(300),
    "upsample": Upsample(3, "error"),
    "draw": Draw("loss", 400),
    "draw at most once": Draw("loss", 400, replacement=False),
}
HALF = POLICIES["prune"]


@pytest.fixture(autouse=True)
def many_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every partition is a share, so that these small tables are merged in a tree too."""
    monkeypatch.setattr(partitions, "LEAST", 0)


def table() -> Any:
    rng = np.random.default_rng(0)
    loss = rng.integers(0, 8, N) / 4  # many ties
    columns = {"loss": pa.array(loss, mask=rng.random(N) < 0.05), "error": (loss > 1).astype(np.float32)}
    columns |= {"id": [f"key{i}" for i in range(N)], "source": rng.choice(["a", "b", "c"], N)}
    return pa.table(columns)


def parts() -> list[Any]:
    borders = np.linspace(0, N, PARTS + 1).astype(int)
    return [table().slice(start, stop - start) for start, stop in pairwise(borders)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The table as a folder of files."""
    (tmp_path / "table").mkdir()
    for number, part in enumerate(parts()):
        parquet.write_table(part, tmp_path / "table" / f"{number:02}.parquet")
    return tmp_path / "table"


def all_rows(plan: Any) -> Any:
    return pa.concat_tables([plan.rows(number) for number in range(len(plan.partitions))])


@pytest.mark.parametrize("name", POLICIES)
def test_the_plan_is_that_of_one_process(name: str, folder: Path) -> None:
    policy = POLICIES[name]
    here, there = (plan_table(folder, policy, key="id", seed=3, epoch=2, engine=by) for by in ("arrow", "ray"))
    assert there.id == here.id
    assert there.partitions == here.partitions
    assert all_rows(there) == all_rows(here)


def test_the_plan_is_that_of_a_store_in_memory(folder: Path) -> None:
    with ScoreStore.from_table(None, table().select(["id", "loss"]), {"loss": Loss()}, key="id") as store:
        rows = HALF.plan(store, seed=3, epoch=2).rows
        plan = plan_table(folder, HALF, key="id", seed=3, epoch=2, engine="ray")
        assert all_rows(plan)["key"].to_pylist() == [store.key(row) for row in rows]


def test_tables_in_memory_and_a_dataset_give_the_plan_that_files_give(folder: Path) -> None:
    of_files = plan_table(folder, HALF, key="id", engine="ray")
    for source in (parts(), ray.data.from_arrow(parts())):
        plan = plan_table(source, HALF, key="id", engine="ray")
        assert plan.id == of_files.id
        assert len(plan.partitions) == PARTS
        assert all_rows(plan) == all_rows(of_files)


def test_a_dataset_is_not_taken_for_a_table_by_another_engine() -> None:
    there = ray.data.from_arrow(parts())
    with pytest.raises(InvalidValue, match='plan with engine="ray"'):
        plan_table(there, HALF, key="id")
    assert plan_table(there, HALF, key="id", engine="ray").num_lines == N


def test_a_relative_path_is_the_drivers(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan_table("table", HALF, key="id", engine="ray").write("plan")
    assert len(list((tmp_path / "plan").glob("*.parquet"))) == PARTS


def test_the_driver_receives_little_in_each_pass(folder: Path) -> None:
    plan = plan_table(folder, HALF, key="id", engine="ray")
    assert len(plan.passes) > 1
    assert 0 < max(one.received for one in plan.passes) < PARTS * planning_ray.INLINE


def test_a_bad_line_is_named_with_its_place(folder: Path) -> None:
    bad = parts()[4].set_column(0, "loss", pa.array(np.full(len(parts()[4]), 1e300)))
    parquet.write_table(bad, folder / "04.parquet", row_group_size=50)
    with pytest.raises(InvalidValue, match=r"04\.parquet, row group 0, line 0 .*does not fit float32") as caught:
        plan_table(folder, HALF, key="id", engine="ray")
    assert caught.type is InvalidValue
    assert "\n" not in str(caught.value)


def test_a_bad_line_of_a_block_is_named_with_its_place() -> None:
    bad = [
        one.set_column(2, "id", pa.array([None] * len(one), pa.string())) if n == 2 else one
        for n, one in enumerate(parts())
    ]
    with pytest.raises(InvalidValue, match=r"the Dataset \(partition 2\), line 0 .*is null"):
        plan_table(ray.data.from_arrow(bad), HALF, key="id", engine="ray")


# -- workers that die ---------------------------------------------------------------------------------------------------


class Deadly(RayEngine):
    """Kills the worker that is at the sixth share of the second pass, once."""

    folder = ""

    def run(self, task: Any, shares: Any, arguments: Any, merge: Any) -> Any:
        if len(self.received) != 1:
            return super().run(task, shares, arguments, merge)
        return super().run(dies_once, shares, (f"{self.folder}/died", task, *arguments), merge)


def dies_once(share: Any, marker: str, task: Callable[..., Any], *arguments: Any) -> Any:
    if share.first == 5 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task(share, *arguments)


def test_a_worker_that_is_killed_in_a_pass_changes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = plan_table(folder, HALF, key="id")
    monkeypatch.setattr(planning_ray, "RayEngine", Deadly)
    monkeypatch.setattr(Deadly, "folder", str(tmp_path))
    plan = plan_table(folder, HALF, key="id", engine="ray")
    assert (tmp_path / "died").exists()
    assert len(plan.passes) > 2
    assert plan.id == undisturbed.id
    assert all_rows(plan) == all_rows(undisturbed)


class DeadlyAtWriting(RayEngine):
    """Kills the worker that has begun to write the sixth file, once."""

    folder = ""

    def run(self, task: Any, shares: Any, arguments: Any, merge: Any) -> Any:
        return super().run(dies_at_writing, shares, (f"{self.folder}/died", task, *arguments), merge)


def dies_at_writing(share: Any, marker: str, task: Callable[..., Any], *arguments: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if share.first == 5 and not Path(marker).exists():
            patch.setattr(
                parquet.ParquetWriter, "write_table", lambda *_: (Path(marker).touch(), os.kill(os.getpid(), 9))
            )
        return task(share, *arguments)


def test_a_worker_that_is_killed_while_it_writes_leaves_no_trace(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_table(folder, HALF, key="id").write(tmp_path / "undisturbed")
    monkeypatch.setattr(planning_ray, "RayEngine", DeadlyAtWriting)
    monkeypatch.setattr(DeadlyAtWriting, "folder", str(tmp_path))
    plan_table(folder, HALF, key="id", engine="ray").write(tmp_path / "plan")
    assert (tmp_path / "died").exists()
    written, undisturbed = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("plan", "undisturbed")
    )
    assert written == undisturbed
