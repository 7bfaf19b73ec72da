"""What lies on disk: plain Zarr that any client reads, plans as small files, provenance."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from adaptive_sampler import Plan, ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Forgetting, Loss
from adaptive_sampler.selection import Draw, Prune, Upsample
from tests.storage.helpers import filled


def test_any_zarr_client_reads_the_columns(tmp_path: Path) -> None:
    filled(tmp_path / "s").close()
    group = zarr.open_group(tmp_path / "s" / "v1", mode="r")
    assert sorted(group.group_keys()) == ["el2n", "forgetting", "loss"]
    np.testing.assert_array_equal(group["el2n/value"][:], np.arange(100))
    assert group["el2n/value"].dtype == np.float32
    assert group["el2n/count"].dtype == np.uint32
    assert group["el2n/last_seen"].dtype == np.int32


def test_attributes_explain_scores_and_columns(tmp_path: Path) -> None:
    filled(tmp_path / "s").close()
    group = zarr.open_group(tmp_path / "s" / "v1", mode="r")
    assert group["el2n"].attrs["score"] == {"kind": "el2n", "squared": False, "fold": {"kind": "mean"}, "name": "el2n"}
    columns = [array for _, array in group.members(max_depth=None) if isinstance(array, zarr.Array)]
    assert len(columns) == 3 + 3 + 7
    assert all(array.attrs["description"] for array in columns)


def test_zarr_sees_never_observed_rows_as_nan(tmp_path: Path) -> None:
    store = ScoreStore.create(tmp_path / "s", 10, [Loss()])
    store.fold("loss", [3], [7])
    store.commit()
    values = zarr.open_array(tmp_path / "s/v1/loss/value", mode="r")[:]
    assert values[3] == 7
    assert np.isnan(np.delete(values, 3)).all()


def test_keys_are_in_the_zarr_group(tmp_path: Path) -> None:
    filled(tmp_path / "s", n=2, keys=["a", "ß"]).close()
    group = zarr.open_group(tmp_path / "s" / "v1", mode="r")
    assert bytes(group["keys/text"][:]).decode() == "a\0ß\0"
    assert group["keys/ends"][:].tolist() == [1, 4]


def test_a_pruned_plan_takes_less_than_a_fifth_of_a_byte_a_row(tmp_path: Path) -> None:
    n = 100_000
    with filled(tmp_path / "s", n=n) as store:
        plan = Prune(0.5, "loss").plan(store, epoch=0, seed=0)
        store.session.plans.keep(plan)
    size = sum(p.stat().st_size for p in (tmp_path / "s/plans" / plan.id).iterdir())
    assert size <= 0.2 * n


def test_a_plan_tells_where_it_comes_from(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        store.fold("loss", [0], [1])
        store.session.plans.keep(plan := Upsample(3, "forgetting").plan(store, epoch=4, seed=9))
    again = ScoreStore.open(tmp_path / "s", mode="r").plan(plan.id)
    assert (again.epoch, again.seed, again.made_from) == (4, 9, (1, 1))
    assert again.policy == {"kind": "Upsample", "factor": 3, "by": "forgetting", "convention": "total"}


SLICE = """
import sys
import numpy as np
from adaptive_sampler import ScoreStore
plan = ScoreStore.open(sys.argv[1], mode="r").plan(sys.argv[2])
print(plan.part(20, 40)[0].tolist())
"""


def test_another_process_reads_its_slice_of_a_plan(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as store:
        store.session.plans.keep(plan := Prune(0.7, "loss").plan(store, epoch=0, seed=0))
        store.session.plans.save()
        read = subprocess.run(
            [sys.executable, "-c", SLICE, tmp_path / "s", plan.id], check=True, capture_output=True, text=True
        )
    assert read.stdout.strip() == str([row for row in plan.rows.tolist() if 20 <= row < 40])


@pytest.mark.parametrize("policy", [Prune(0.5, "loss"), Upsample(3, "forgetting"), Draw("loss", unbiased=True)])
@pytest.mark.parametrize(("start", "stop"), [(0, 100), (0, 0), (13, 57), (99, 100)])
def test_a_slice_of_a_plan_is_that_part_of_the_whole(policy, start: int, stop: int) -> None:
    plan: Plan = policy.plan(filled(None), epoch=0, seed=0)
    rows, repeats, weights = plan.part(start, stop)
    inside = (plan.rows >= start) & (plan.rows < stop)
    assert rows.tolist() == plan.rows[inside].tolist()
    assert repeats.tolist() == plan.repeats[start:stop][plan.repeats[start:stop] > 0].tolist()
    np.testing.assert_array_equal(weights, plan.loss_weights[plan.rows[inside]])


def test_provenance_comes_back(tmp_path: Path) -> None:
    with ScoreStore.create(
        tmp_path / "s", 5, [EL2N()], fingerprint="abc", metadata={"model": "resnet", "lr": 0.1}
    ) as store:
        store.begin_run("seed 1")
        store.add(Forgetting())
        store.commit()
    about = ScoreStore.open(tmp_path / "s", mode="r").about
    assert about["fingerprint"] == "abc"
    assert about["metadata"] == {"model": "resnet", "lr": 0.1}
    assert about["runs"] == ["", "seed 1"]
    assert set(about["made"]) == {"el2n", "forgetting"}
    assert about["made"]["forgetting"]["time"] >= about["created"]


def test_metadata_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="JSON data is needed"):
        ScoreStore.create(tmp_path / "s", 5, [EL2N()], metadata={"model": object()})
    assert not (tmp_path / "s").exists()


def test_a_copy_of_a_temporary_store_is_plain_zarr_from_its_first_commit_on(tmp_path: Path) -> None:
    with ScoreStore.create(None, 3, [Loss()], keys=["a", "b", "c"]) as store:
        store.fold("loss", [1], [7])
        store.commit()
        shutil.copytree(store.path, tmp_path / "s", ignore=shutil.ignore_patterns("LOCK"))
    with ScoreStore.open(tmp_path / "s") as store:
        version = store.commit()
    group = zarr.open_group(tmp_path / "s" / f"v{version}", mode="r")
    assert group["loss/value"][1] == 7
    assert bytes(group["keys/text"][:]).decode() == "a\0b\0c\0"
