"""Two samplers walk one store, one within an epoch of the other: each counts, records and resumes by itself."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll, RandomPrune
from adaptive_sampler.torch import AdaptiveSampler, IndexedDataset, LossHook

N = 20
DATA = TensorDataset(torch.randn(N, 3), torch.randint(0, 2, (N,)))


def two(store: ScoreStore) -> tuple[AdaptiveSampler, AdaptiveSampler]:
    return AdaptiveSampler(store, KeepAll(), seed=1), AdaptiveSampler(store, RandomPrune(0.5), seed=2)


def loaders(*samplers: AdaptiveSampler) -> list[DataLoader]:
    return [DataLoader(IndexedDataset(DATA), batch_size=4, sampler=sampler) for sampler in samplers]


@pytest.fixture
def store() -> ScoreStore:
    return ScoreStore.create(None, N, [Loss()])


def test_once_an_inner_pass_has_ended_the_outer_one_counts_again(store: ScoreStore) -> None:
    hook, (outer, inner) = LossHook(nn.CrossEntropyLoss(), store), loaders(*two(store))
    counted = []
    for _ in hook.watch(outer):
        counted.append(hook.delivered)
        for _ in hook.watch(inner):
            pass
        counted.append(hook.delivered)
    assert counted == [4, 4, 8, 8, 12, 12, 16, 16, 20, 20]
    assert hook.delivered == N


def test_the_pass_of_the_hooks_own_sampler_counts_while_it_goes_on(store: ScoreStore) -> None:
    own, other = two(store)
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=own)
    (outer, inner), counted = loaders(own, other), []
    beside = iter(hook.watch(inner))
    for number, _ in enumerate(hook.watch(outer)):
        if number < 2:
            next(beside)
        counted.append(hook.delivered)
    assert counted == [4, 8, 12, 16, 20]


def test_a_pass_that_was_left_open_counts_no_more_once_its_sampler_has_gone_on(store: ScoreStore) -> None:
    hook, (loader, _) = LossHook(nn.CrossEntropyLoss(), store), loaders(*two(store))
    left = iter(hook.watch(loader))
    next(left)
    for _ in hook.watch(loader):
        pass
    assert hook.delivered == N


def test_after_an_inner_pass_a_commit_is_of_the_outer_epoch(tmp_path: Path) -> None:
    store = ScoreStore.create(tmp_path / "s", N, [Loss()])
    sampler, other = two(store)
    hook, (outer, inner) = LossHook(nn.CrossEntropyLoss(), store), loaders(sampler, other)
    for epoch in range(2):
        for number, _ in enumerate(hook.watch(outer)):
            for _ in hook.watch(inner):
                pass
            if (epoch, number) == (1, 2):
                assert (other.epoch, store.epoch) == (7, 1)
                state = sampler.state_dict(delivered=hook.delivered)
                store.commit()
    store.close()
    again, _ = two(ScoreStore.open(tmp_path / "s"))
    again.load_state_dict(state)
    assert (again.epoch, len(list(again))) == (1, N - 12)


@pytest.mark.parametrize("gone", [False, True])
def test_a_state_is_not_compared_with_a_commit_by_another_samplers_clock(tmp_path: Path, gone: bool) -> None:
    store = ScoreStore.create(tmp_path / "s", N, [Loss()])
    sampler, other = two(store)
    walk = iter(sampler)
    taken = [next(walk) for _ in range(7)]
    for _ in range(3):
        list(other)
    state = sampler.state_dict(delivered=7)
    if gone:
        del other
    store.commit()
    store.close()
    again, _ = two(ScoreStore.open(tmp_path / "s"))
    again.load_state_dict(state)
    assert sorted([*taken, *again]) == list(range(N))
