"""Whatever loader, workers and ranks share an epoch of planned shards, each planned sample comes to one of them."""

from typing import Any

import numpy as np
import pytest
import webdataset as wds

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.selection import Prune
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.webdataset import PlannedShards
from tests.webdataset.planned import N, foreign, indices, rows, store_of, top_half
from tests.webdataset.raising import lost

# The test machine has fewer cores than the layouts under test have workers.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_read_disjoint_shares_under_every_start_method(index: ShardIndex, context: str) -> None:
    loader = PlannedShards(index, top_half()).loader(
        batch_size=8, num_workers=2, collate_fn=indices, multiprocessing_context=context
    )
    assert sorted(row for batch in loader for row in batch) == list(range(45, 90))


@pytest.mark.parametrize("workers", [0, 1, 3, 4])
def test_an_epoch_is_whole_with_any_number_of_workers(index: ShardIndex, workers: int) -> None:
    loader = PlannedShards(index, top_half()).loader(batch_size=4, num_workers=workers, collate_fn=indices)
    assert sorted(row for batch in loader for row in batch) == list(range(45, 90))


def test_persistent_workers_see_each_epochs_plan(index: ShardIndex) -> None:
    store = store_of()
    sampler = AdaptiveSampler(store, Prune(10, "loss"), warmup_epochs=1)
    loader = PlannedShards(index, sampler).loader(
        batch_size=8, num_workers=2, collate_fn=indices, persistent_workers=True
    )
    epochs = []
    for _ in range(3):
        epochs.append(sorted(row for batch in loader for row in batch))
        store.fold("loss", np.arange(N), -np.arange(N, dtype=np.float32))
    assert epochs[0] == list(range(N))
    assert epochs[1] == epochs[2] == list(range(10))


@pytest.mark.parametrize("persistent", [False, True])
def test_a_foreign_loader_with_workers_follows_set_epoch(index: ShardIndex, persistent: bool) -> None:
    shards = PlannedShards(index, top_half())
    loader, epochs = foreign(shards, persistent), []
    for epoch in range(2):
        shards.set_epoch(epoch)
        epochs.append([row for batch in loader for row in batch])
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(45, 90))
    assert epochs[0] != epochs[1]


def test_a_foreign_loader_before_any_set_epoch_raises(index: ShardIndex) -> None:
    lost(foreign(PlannedShards(index, top_half())), "before any epoch was planned: call set_epoch")


def test_a_missing_set_epoch_under_a_foreign_loader_raises(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    shards.set_epoch(0)
    loader = foreign(shards)
    first = list(loader)
    lost(loader, r"nobody told the trainer.*Call set_epoch")
    shards.set_epoch(0)
    assert list(loader) == first


def test_a_webloader_takes_it(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    shards.set_epoch(0)
    assert sorted(rows(wds.WebLoader(shards, batch_size=None, num_workers=2))) == list(range(45, 90))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_get_equal_disjoint_shares(index: ShardIndex, ranks: int, workers: int) -> None:
    shares = []
    for rank in range(ranks):
        shards = PlannedShards(index, top_half(), rank=rank, num_replicas=ranks, drop_last=True)
        loader = shards.loader(batch_size=4, num_workers=workers, collate_fn=indices)
        shares.append([row for batch in loader for row in batch])
        assert shards.num_samples == len(shares[-1]) == 45 // ranks
    together = [row for own in shares for row in own]
    assert len(set(together)) == len(together)


def test_the_rank_comes_from_the_environment_as_in_webdataset(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert PlannedShards(index, top_half()).num_samples == 15


@pytest.mark.parametrize("options", [{"drop_last": True}, {}, {"num_workers": 2}, {"batch_size": None}], ids=str)
def test_a_loader_has_as_many_batches_as_it_says(index: ShardIndex, options: dict[str, Any]) -> None:
    loader = PlannedShards(index, top_half()).loader(**({"batch_size": 7, "collate_fn": list} | options))
    assert len(list(loader)) == len(loader)


def test_stages_leave_the_length_open(index: ShardIndex) -> None:
    with pytest.raises(TypeError, match="the stages of this stream decide"):
        len(PlannedShards(index, top_half(), stages=[wds.batched(3)]).loader())


def test_a_worker_whose_shards_are_all_pruned_ends_quietly(index: ShardIndex) -> None:
    sampler = AdaptiveSampler(store_of(), Prune(2, "loss"))
    loader = PlannedShards(index, sampler).loader(batch_size=2, num_workers=3, collate_fn=indices)
    assert sorted(loader) == [[88], [89]]
