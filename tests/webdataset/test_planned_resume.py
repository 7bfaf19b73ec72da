"""A pass over planned shards goes on from its state where it stopped, in any loader, and on other ranks and workers."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchdata.stateful_dataloader import StatefulDataLoader

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import ResumeError
from adaptive_sampler.selection import Prune
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.webdataset import PlannedShards
from tests.webdataset.planned import N, foreign, indices, rows, store_of, top_half

# The test machine has fewer cores than the layouts under test have workers.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("stop", [0, 1, 4, 5])
def test_a_loader_resumes_exactly(index: ShardIndex, tmp_path: Path, workers: int, stop: int) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()

    def fresh() -> Any:
        sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
        return PlannedShards(index, sampler, window=7).loader(batch_size=4, num_workers=workers, collate_fn=indices)

    whole = list(fresh())
    loader = fresh()
    first: Iterator[list[int]] = iter(loader)
    before = [next(first) for _ in range(stop)]
    state = loader.state_dict()
    del first
    again = fresh()
    again.load_state_dict(state)
    assert before + list(again) == whole
    # and the next epoch is the next
    assert [again.dataset.epoch, len(list(again)), again.dataset.epoch] == [0, len(whole), 1]


def test_a_state_at_the_end_of_an_epoch_begins_the_next(index: ShardIndex, tmp_path: Path) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()
    shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    loader = shards.loader(batch_size=4, num_workers=2, collate_fn=indices)
    list(loader)
    state = loader.state_dict()
    following = list(loader)
    again = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    again.load_state_dict(state)
    assert list(again.loader(batch_size=4, num_workers=2, collate_fn=indices)) == following


def test_scores_that_moved_on_do_not_change_a_resumed_epoch(index: ShardIndex, tmp_path: Path) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()
    shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    walk = iter(shards)
    before = [next(walk)["__index__"] for _ in range(10)]
    state = shards.state_dict()
    store.fold("loss", np.arange(N), -np.arange(N, dtype=np.float32))
    again = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    again.load_state_dict(state)
    assert sorted(before + rows(again)) == list(range(45, 90))


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (3, 2), (2, 3)])
def test_a_state_resumes_on_other_ranks_and_workers(
    index: ShardIndex, tmp_path: Path, ranks: int, workers: int
) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()

    def on(rank: int, ranks: int, workers: int) -> Any:
        shards = PlannedShards(
            index, AdaptiveSampler(store, Prune(0.5, "loss")), rank=rank, num_replicas=ranks, window=7
        )
        return shards.loader(batch_size=3, num_workers=workers, collate_fn=indices)

    seen = []
    for rank in range(2):
        loader = on(rank, 2, 2)
        for batch in islice(loader, 3):
            seen += batch
    state = loader.state_dict()
    assert state["taken"] == [[1, 0, 6], [1, 1, 3]]
    for rank in range(ranks):
        resumed = on(rank, ranks, workers)
        resumed.load_state_dict(state)
        seen += [row for batch in resumed for row in batch]
    assert set(seen) == set(range(45, 90))
    assert len(seen) - 45 <= 1 + ranks


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 2, 5])
def test_a_stateful_dataloader_resumes_exactly(index: ShardIndex, tmp_path: Path, workers: int, stop: int) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()

    def fresh() -> tuple[PlannedShards, Any]:
        shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")), window=7)
        return shards, StatefulDataLoader(shards, batch_size=4, num_workers=workers, collate_fn=indices)

    shards, loader = fresh()
    shards.set_epoch(2)
    whole = list(loader)
    shards, loader = fresh()
    shards.set_epoch(2)
    walk = iter(loader)
    before = [next(walk) for _ in range(stop)]
    state = loader.state_dict()
    shards, loader = fresh()
    shards.set_epoch(2)
    loader.load_state_dict(state)
    assert before + list(loader) == whole


def test_a_stateful_dataloaders_state_resumes_on_other_ranks(index: ShardIndex, tmp_path: Path) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()
    states, seen = [], []
    for rank in range(2):
        shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")), rank=rank, num_replicas=2, window=7)
        shards.set_epoch(0)
        loader = StatefulDataLoader(shards, batch_size=4, num_workers=2, collate_fn=indices)
        walk = iter(loader)
        for _ in range(3):
            seen += next(walk)
        states.append(loader.state_dict())
        del walk, loader
    shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")), window=7)
    shards.load_state_dict(states)
    seen += rows(shards)
    assert set(seen) == set(range(45, 90))
    assert len(seen) <= 46


def test_a_foreign_loader_cannot_be_resumed_from_here(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    shards.set_epoch(0)
    list(foreign(shards))
    with pytest.raises(ResumeError, match="StatefulDataLoader, or iterate"):
        shards.state_dict()


def test_set_epoch_to_another_epoch_straight_after_loading_raises(index: ShardIndex, tmp_path: Path) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()
    shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    next(iter(shards))
    state = shards.state_dict()
    again = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    again.load_state_dict(state)
    with pytest.raises(ResumeError, match=r"set_epoch\(1\) after loading a state within epoch 0"):
        again.set_epoch(1)
    again.set_epoch(0)
    assert len(rows(again)) == 44
