"""Ray Train with two workers: it keeps our distributed sampler, and a worker that dies changes nothing of what is trained."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import SelectionLost
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, LossHook, check, distributed_store, sync
from docs.examples import ray_train, torchrun
from tests.torch.examples.killed import result
from tests.torch.processes import run, succeeded
from tests.torch.samples import N, dataset

pytestmark = pytest.mark.usefixtures("cluster")
EPOCHS = 3


def a_few_epochs(config: dict[str, Any]) -> None:
    """Trains by half of the rows; writes down what this rank saw."""
    rank, folder = dist.get_rank(), Path(config["folder"])
    store = distributed_store(folder / "facts.zarr", N, [Loss()])
    sampler = AdaptiveSampler(store, Prune(0.5, by="loss"), warmup_epochs=1)
    ranks, samples = DistributedAdaptiveSampler(sampler), IndexedDataset(dataset(), store)
    loader = ray.train.torch.prepare_data_loader(DataLoader(samples, batch_size=4, sampler=ranks))
    hook = LossHook(torch.nn.CrossEntropyLoss(), store)
    model = ray.train.torch.prepare_model(torch.nn.Linear(4, 3))
    visited, planned, delivered = [], [], []
    for _ in range(EPOCHS):
        visited.append([])
        for inputs, labels in hook.watch(loader):
            check(loader, sampler=ranks)
            hook(model(inputs), labels).backward()
            visited[-1] += inputs[:, 0].int().tolist()
        planned.append(sampler.plan.rows.tolist())
        delivered.append(hook.delivered)
        sync(store, ranks)
    seen = {
        "visited": visited,
        "planned": planned,
        "delivered": delivered,
        "kept": loader.sampler is ranks,
        "scores": store["loss"].tolist(),
        "counts": store.count("loss").tolist(),
        "lost": lost(samples, sampler, ranks),
    }
    (folder / f"rank{rank}.json").write_text(json.dumps(seen))
    store.close()


def lost(samples: Any, sampler: AdaptiveSampler, ranks: DistributedAdaptiveSampler) -> dict[str, str]:
    """What `check` says of loaders that Ray has prepared otherwise than the docs say."""
    prepare = ray.train.torch.prepare_data_loader
    loaders = {
        "sampler": prepare(DataLoader(samples, sampler=sampler)),
        "batch_sampler": prepare(DataLoader(samples, batch_sampler=ranks.batches(4))),
        "no dist sampler": prepare(DataLoader(samples, sampler=sampler), add_dist_sampler=False),
    }
    said = {}
    for name, loader in loaders.items():
        with pytest.raises(SelectionLost) as caught:
            check(loader)
        said[name] = str(caught.value)
    check(prepare(DataLoader(samples, batch_sampler=ranks.batches(4)), add_dist_sampler=False))
    return said


# -- the full example -----------------------------------------------------------------------------------------------------

SAVED = 5  # how often the second worker saves before it dies, in mid-epoch


def trained(config: dict[str, Any]) -> None:
    """The example's training, in which the second worker is killed once; and what prepare_data_loader makes of samplers."""
    marker, calls = Path(config["folder"]) / "died", []

    def sync_or_die(*arguments: Any) -> None:
        calls.append(None)
        if len(calls) == SAVED and dist.get_rank() == 1 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        sync(*arguments)

    ray_train.sync = sync_or_die
    ray_train.train(config)
    a_few_epochs(config)


def trained_by_torchrun(rank: int, folder: Path) -> bool:
    """The same training by the example for torchrun, to its end: as many epochs, saved as often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setattr(dist, "init_process_group", lambda backend: None)  # there is one already
        patch.setattr(dist, "destroy_process_group", lambda: None)
        patch.setattr(torchrun, "EPOCHS", ray_train.EPOCHS)
        patch.setattr(torchrun, "EVERY", ray_train.EVERY)
        torchrun.main(folder)
    return True


@pytest.fixture(scope="module")
def folder(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where the training by Ray left its results."""
    folder = tmp_path_factory.mktemp("ray_train")
    with pytest.MonkeyPatch.context() as patch:
        # Ray's controller looks every 2 s whether a worker has reported something, and the worker waits for that.
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.05")
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process that takes seconds to start
        patch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")  # a machine may be busy
        ray_train.main(folder, trained)
    return folder


@pytest.fixture
def seen(folder: Path) -> list[dict[str, Any]]:
    """What each rank wrote down."""
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_a_worker_that_is_killed_changes_neither_weights_nor_scores(folder: Path, tmp_path: Path) -> None:
    """They are those of the same training by torchrun's example, which nothing disturbs."""
    assert (folder / "died").exists()
    assert succeeded(run(2, trained_by_torchrun, tmp_path)) == [True, True]
    assert result(folder) == result(tmp_path)


# -- what prepare_data_loader makes of a sampler --------------------------------------------------------------------------


def test_prepare_data_loader_keeps_a_distributed_adaptive_sampler(seen: Any) -> None:
    assert [one["kept"] for one in seen] == [True, True]


def test_the_ranks_visit_each_planned_row_once(seen: Any) -> None:
    for epoch in range(EPOCHS):
        visited = [one["visited"][epoch] for one in seen]
        assert sorted(visited[0] + visited[1]) == seen[0]["planned"][epoch] == seen[1]["planned"][epoch]
        assert len(visited[0]) == len(visited[1]) == seen[0]["delivered"][epoch]
    assert [len(rows) for rows in seen[0]["planned"]] == [N, N // 2, N // 2]


def test_sync_makes_the_scores_of_the_ranks_equal(seen: Any) -> None:
    assert seen[0]["scores"] == seen[1]["scores"]
    assert sum(seen[0]["counts"]) == sum(seen[1]["counts"]) == 2 * N


def test_check_finds_a_sampler_that_prepare_data_loader_replaced(seen: Any) -> None:
    for one in seen:
        assert "DistributedSampler draws the indices" in one["lost"]["sampler"]
        assert "sampler=DistributedAdaptiveSampler(sampler)" in one["lost"]["sampler"]


def test_check_finds_a_batch_sampler_that_prepare_data_loader_dropped(seen: Any) -> None:
    for one in seen:
        assert "add_dist_sampler=False (Ray)" in one["lost"]["batch_sampler"]


def test_check_finds_a_sampler_that_draws_all_rows_on_each_worker(seen: Any) -> None:
    for one in seen:
        assert "each of 2 ranks draws all rows" in one["lost"]["no dist sampler"]
