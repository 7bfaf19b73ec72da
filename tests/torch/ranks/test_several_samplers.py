"""Several samplers, and scoring passes, over one store on ranks: nothing but padding is left out, whoever was synced before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll, Prune, RandomPrune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, distributed_store, observe, sync
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from tests.torch.processes import run, succeeded

N = 11  # odd, so that two ranks are padded


def see(store: ScoreStore, rows: Any) -> None:
    store.update(rows, loss=np.ones(len(rows)))


def counts(store: ScoreStore) -> list[int]:
    found: list[int] = store.count("loss").tolist()
    return found


def training(store: ScoreStore) -> DistributedAdaptiveSampler:
    return DistributedAdaptiveSampler(AdaptiveSampler(store, KeepAll()))


def another_is_synced_in_between(rank: int, path: str, resumed: bool) -> list[int]:
    store = distributed_store(path, N, [Loss()])
    sampler, other = training(store), DistributedAdaptiveSampler(AdaptiveSampler(store, RandomPrune(0.5), seed=5))
    share = list(sampler)
    see(store, share[:3])
    sync(store, sampler)
    list(other)
    sync(store, other)
    if resumed:  # by a loader that draws the epoch from its start, and skips what was trained on
        state = sampler.state_dict(delivered=0)
        store.commit()
        store.close()
        dist.barrier()
        store = distributed_store(path, N, [Loss()], exist_ok=True)
        sampler = training(store)
        sampler.load_state_dict(state | {"counts": "drawn"})
        share = list(sampler)
    see(store, share[3:])
    sync(store, sampler)
    return counts(store)


@pytest.mark.parametrize("resumed", [False, True])
def test_padding_counts_once_though_another_sampler_was_synced_within_the_epoch(place: Path, resumed: bool) -> None:
    assert succeeded(run(2, another_is_synced_in_between, str(place), resumed)) == [[1] * N] * 2


def two_walk_one_plan(rank: int, path: str) -> tuple[bool, list[int]]:
    store = distributed_store(path, N, [Loss()])
    one, two = training(store), training(store)
    shares = list(one), list(two)
    for sampler, share in zip((one, two), shares, strict=True):
        see(store, share)
        sync(store, sampler)
    return one.plan.id == two.plan.id, counts(store)


def test_two_samplers_of_one_plan_each_have_its_visits(place: Path) -> None:
    assert succeeded(run(2, two_walk_one_plan, str(place))) == [(True, [2] * N)] * 2


def one_of_two_ends_before_the_commit(rank: int, path: str) -> list[int]:
    store = distributed_store(path, N, [Loss()])
    one, two = training(store), training(store)
    ended, begun = list(one), list(two)
    see(store, ended)
    sync(store, one)
    see(store, begun[:3])
    sync(store, two)
    state = two.state_dict(delivered=3)
    store.commit()
    store.close()
    dist.barrier()
    store = distributed_store(path, N, [Loss()], exist_ok=True)
    two = training(store)
    two.load_state_dict(state)
    see(store, list(two))
    sync(store, two)
    return counts(store)


def test_of_two_samplers_of_one_plan_the_one_amid_its_epoch_goes_on_though_the_other_had_ended(place: Path) -> None:
    assert succeeded(run(2, one_of_two_ends_before_the_commit, str(place))) == [[2] * N] * 2


def scored_in_between(rank: int, path: str, kind: str) -> tuple[list[int], list[int]]:
    store = distributed_store(path, N, [Loss()])
    see(store, np.arange(rank, N, 2))
    sync(store)
    sampler = DistributedAdaptiveSampler(AdaptiveSampler(store, Prune(0.5, "loss")))
    trained = list(sampler)
    see(store, trained)
    if kind == "rows":
        see(store, sampler.plan.repeats.argsort(stable=True)[:4])  # which the plan leaves out, on either rank
    else:
        samples = torch.utils.data.TensorDataset(torch.randn(N, 2), torch.zeros(N, dtype=torch.int64))
        part = torch.utils.data.DataLoader(IndexedDataset(samples), 4, sampler=range(rank, N, 2))
        observe(torch.nn.Linear(2, 2), part, store, progress=False)
    sync(store, sampler)
    return counts(store), sampler.plan.repeats.tolist()


def test_a_scoring_pass_within_an_epoch_is_folded_whole(place: Path) -> None:
    for found, planned in succeeded(run(2, scored_in_between, str(place), "observe")):
        assert found == [2 + visits for visits in planned]


def test_rows_that_the_plan_leaves_out_are_folded_as_they_come(place: Path) -> None:
    for found, planned in succeeded(run(2, scored_in_between, str(place), "rows")):
        out = [row for row in range(N) if not planned[row]][:4]
        assert found == [1 + planned[row] + 2 * (row in out) for row in range(N)]
