"""What `plan_table` plans is what is trained on: the whole way from a table to visits, by its folder and without one."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="PyArrow reads tables")

import pyarrow as pa

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Last, Score
from adaptive_sampler.selection import Draw, Policy, Prune, Upsample
from adaptive_sampler.tables import PlanFolder, Planned, PlannedKeys, export_plan, plan_table

KEYS = [f"{row:032x}" for row in range(60)]
QUALITY = (np.arange(60) * 7 % 20).astype(np.float32)  # each value comes three times


def quality(quality: np.ndarray) -> np.ndarray:
    return quality


def lake(text: bool) -> list[pa.Table]:
    keys = pa.array(KEYS) if text else pa.array(range(60))
    whole = pa.table({"uid": keys, "quality": QUALITY})
    return [whole.slice(40), whole.slice(0, 0), whole.slice(0, 40)]


def store(text: bool) -> ScoreStore:
    made = ScoreStore.create(None, 60, [Score("quality", quality, Last())], keys=KEYS if text else None)
    made.fold("quality", range(60), QUALITY)
    return made


@pytest.mark.parametrize("text", [True, False], ids=["by key", "by row"])
@pytest.mark.parametrize(
    "policy",
    [Prune(0.25, "quality"), Upsample(3, "quality"), Draw("quality", 90, unbiased=True)],
    ids=["prune", "upsample", "draw"],
)
def test_a_store_trains_by_a_plan_of_the_lake_as_by_its_own_scores(tmp_path: Path, policy: Policy, text: bool) -> None:
    own, plan = store(text), plan_table(lake(text), policy, key="uid", seed=5, epoch=0)
    plan.write(tmp_path / "plan")
    expected = policy.plan(own, epoch=0, seed=5)
    for source in (plan, tmp_path / "plan"):
        planned = Planned(source).plan(own, epoch=0, seed=5)
        assert planned.repeats.tolist() == expected.repeats.tolist()
        assert planned.loss_weights.tolist() == expected.loss_weights.tolist()
        keys, names = PlannedKeys(source), KEYS if text else np.arange(60)
        assert keys.repeats(names).tolist() == expected.repeats.tolist()
        assert keys.weights(names).tolist() == expected.loss_weights.tolist()
        assert Counter(AdaptiveSampler(own, Planned(source))) == Counter(expected.indices().tolist())


def test_a_folder_has_the_partitions_of_the_plan(tmp_path: Path) -> None:
    plan = plan_table(lake(True), Prune(0.25, "quality"), key="uid")
    plan.write(tmp_path / "plan")
    folder = PlanFolder(tmp_path / "plan")
    assert (folder.id, folder.num_lines, folder.num_rows) == (plan.id, plan.num_lines, plan.num_rows)
    assert folder.partitions == plan.partitions
    assert all(folder.rows(number).equals(plan.rows(number)) for number in range(3))


def test_a_plan_of_the_lake_is_a_list_for_datacomp(tmp_path: Path) -> None:
    plan = plan_table(lake(True), Prune(0.25, "quality"), key="uid", seed=5)
    export_plan(plan, tmp_path / "lake.npy", uids=True)
    own = store(True)
    own.export(tmp_path / "store.npy", plan=Prune(0.25, "quality").plan(own, epoch=0, seed=5), uids=True)
    assert np.load(tmp_path / "lake.npy").tolist() == np.load(tmp_path / "store.npy").tolist()
    assert len(np.load(tmp_path / "lake.npy")) == 15
