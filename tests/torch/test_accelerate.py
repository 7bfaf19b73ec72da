"""Accelerate, one process and two: batches of the global stream are dealt out, and resumed in the right epoch."""

from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator, DataLoaderConfiguration
from torch.nn import CrossEntropyLoss
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import ResumeError, SelectionLost
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, LossHook, check
from adaptive_sampler.torch import accelerate as ours
from adaptive_sampler.torch.data.samplers import AdaptiveSampler as TorchSampler
from tests.torch.processes import run, succeeded
from tests.torch.training import data, new_store

N, BATCH = 44, 3


def prepared(
    store: ScoreStore, *, even: bool = True, batches: bool = False, seedable: bool = False, workers: int = 0
) -> Any:
    """A sampler, and its loader as Accelerate makes it."""
    machine = Accelerator(
        cpu=True, dataloader_config=DataLoaderConfiguration(even_batches=even, use_seedable_sampler=seedable)
    )
    sampler = TorchSampler(store, Prune(0.5, by="loss"), seed=1)
    drawing: Any = {"batch_sampler": sampler.batches(BATCH)} if batches else {"sampler": sampler, "batch_size": BATCH}
    loader = DataLoader(IndexedDataset(data(N), store), num_workers=workers, **drawing)
    return sampler, machine.prepare(loader)


def walked(loader: Any) -> list[list[int]]:
    return [rows.tolist() for rows, _ in loader]


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("seedable", [False, True])
def test_one_process_walks_the_plan_in_every_epoch(place: Path, batches: bool, seedable: bool) -> None:
    sampler, loader = prepared(new_store(place, N), batches=batches, seedable=seedable)
    alone = TorchSampler(sampler.store, Prune(0.5, by="loss"), seed=1).batches(BATCH)
    for epoch in range(3):
        assert walked(loader) == list(alone)
        check(loader)
        assert sampler.epoch == epoch


def deal(rank: int, path: str, even: bool, batches: bool) -> Any:
    store = ScoreStore.open(path, mode="r")
    sampler, loader = prepared(store, even=even, batches=batches)
    epochs = []
    for _ in range(2):
        epochs.append(walked(loader))
        check(loader)
    return epochs, sampler.epoch


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("batches", [False, True])
def test_two_processes_share_the_plan_once_and_go_on_to_the_next_epoch(place: Path, even: bool, batches: bool) -> None:
    """set_epoch does not reach a batch sampler under Accelerate's shards: the epochs go on without it."""
    store = new_store(place, N)
    alone = TorchSampler(store, Prune(0.5, by="loss"), seed=1)
    results = succeeded(run(2, deal, str(place), even, batches))
    assert [epoch for _, epoch in results] == [1, 1]
    for epoch in range(2):
        planned = list(alone)
        rows = [row for epochs, _ in results for batch in epochs[epoch] for row in batch]
        assert set(rows) == set(planned)
        assert len(rows) == (24 if even else 22)  # 8 batches of 3, the last one short: evened out by the first rows
        if not even:
            assert sorted(rows) == sorted(planned)


def stop_and_go(rank: int, path: str, step: int, workers: int) -> Any:
    store = ScoreStore.open(path, mode="r")
    _, loader = prepared(store, workers=workers, even=False)
    whole = [walked(loader) for _ in range(2)]
    _, loader = prepared(store, workers=workers, even=False)
    walked(loader)
    hook, delivered = LossHook(CrossEntropyLoss(), store), 0
    for done, _ in enumerate(hook.watch(loader), 1):
        hook.forget()
        delivered = hook.delivered
        if done == step:
            break
    state = ours.state_dict(loader, delivered)
    again, loader = prepared(store, workers=workers, even=False)
    ours.load_state_dict(loader, state)
    rest = walked(loader)
    return rest == whole[1][step:], again.epoch, len(rest)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(("step", "workers"), [(1, 0), (3, 0), (2, 2)])
def test_a_resume_goes_on_in_its_epoch_after_what_was_delivered(
    place: Path, ranks: int, step: int, workers: int
) -> None:
    new_store(place, N)
    for same, epoch, left in succeeded(run(ranks, stop_and_go, str(place), step, workers)):
        assert same
        assert (epoch, left) == (1, 8 // ranks - step)


def test_a_resume_without_the_helper_is_refused_not_silently_wrong(place: Path) -> None:
    sampler, loader = prepared(new_store(place, N))
    walked(loader)
    next(iter(sampler))
    state = sampler.state_dict()
    again, loader = prepared(sampler.store)
    again.load_state_dict(state)
    with pytest.raises(ResumeError, match=r"set_epoch\(0\) after loading a state at sample 1 of epoch 1"):
        walked(loader)


def twice(rank: int, path: str) -> Any:
    store = ScoreStore.open(path, mode="r")
    sampler = DistributedAdaptiveSampler(AdaptiveSampler(store, Prune(0.5, by="loss")))
    loader = Accelerator(cpu=True).prepare(DataLoader(IndexedDataset(data(N), store), sampler=sampler, batch_size=2))
    with pytest.raises(SelectionLost, match="shared among ranks twice, by BatchSamplerShard and by Distributed"):
        check(loader)
    with pytest.raises(SelectionLost, match="without DistributedAdaptiveSampler"):
        ours.state_dict(loader, 0)
    return True


def test_check_tells_that_rows_are_shared_twice(place: Path) -> None:
    new_store(place, N)
    succeeded(run(2, twice, str(place)))
