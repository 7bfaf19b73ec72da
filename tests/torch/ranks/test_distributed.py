"""Ranks cover a plan once, in step, and go on from a state with another number of ranks."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader, DistributedSampler

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, NotDistributed
from adaptive_sampler.scoring import L2RW, Error, Loss
from adaptive_sampler.selection import Draw, KeepAll, Prune, RandomPrune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, JTTSampler, LossHook, PrunedSampler
from tests.torch.training import data


def store_of(n: int, values: Any = None) -> ScoreStore:
    store = ScoreStore.create(None, n, [Loss(), Error(), L2RW()])
    store.update(np.arange(n), loss=np.arange(n) if values is None else values)
    store.commit()
    return store


def ranks_of(store: ScoreStore, ranks: int, policy: Any, *, drop_last: bool = False, **sampling: Any) -> Any:
    return [
        DistributedAdaptiveSampler(
            AdaptiveSampler(store, policy, **sampling), num_replicas=ranks, rank=rank, drop_last=drop_last
        )
        for rank in range(ranks)
    ]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("n", [1, 5, 12, 29])
def test_ranks_share_the_rows_as_torchs_own_sampler_does(n: int, ranks: int, drop_last: bool) -> None:
    store = store_of(n)
    for rank, ours in enumerate(ranks_of(store, ranks, KeepAll(), shuffle=False, drop_last=drop_last)):
        theirs = DistributedSampler(
            range(n), num_replicas=ranks, rank=rank, shuffle=False, drop_last=drop_last and n >= ranks
        )
        if drop_last and n < ranks:
            assert list(ours) == []
            continue
        assert list(ours) == list(theirs)
        assert (len(ours), ours.num_samples, ours.total_size) == (len(theirs), theirs.num_samples, theirs.total_size)


@pytest.mark.parametrize("policy", [RandomPrune(0.7), Draw("loss", 60), Prune(20, "loss")])
@pytest.mark.parametrize("num_samples", [None, 31, 150])
def test_ranks_cover_what_one_process_would_visit_and_pad_from_its_beginning(policy: Any, num_samples: Any) -> None:
    store = store_of(50)
    for epoch in range(2):
        alone = AdaptiveSampler(store, policy, seed=3, num_samples=num_samples)
        samplers = ranks_of(store, 4, policy, seed=3, num_samples=num_samples)
        for sampler in [alone, *samplers]:
            sampler.set_epoch(epoch)
        order, shares = list(alone), [list(sampler) for sampler in samplers]
        assert len({len(share) for share in shares}) == 1
        together = [row for step in zip(*shares, strict=True) for row in step]
        assert together == order + order[: -len(order) % 4]


def test_it_has_what_frameworks_read_of_torchs_sampler() -> None:
    sampler = DistributedAdaptiveSampler(
        AdaptiveSampler(store_of(10), KeepAll(), seed=4, shuffle=False), num_replicas=3, rank=1, drop_last=True
    )
    assert isinstance(sampler, DistributedSampler)
    sampler.set_epoch(6)
    read = {name: getattr(sampler, name) for name in ("num_replicas", "rank", "drop_last", "seed", "shuffle", "epoch")}
    assert read == {"num_replicas": 3, "rank": 1, "drop_last": True, "seed": 4, "shuffle": False, "epoch": 6}
    assert (len(sampler.dataset), len(sampler), sampler.num_samples, sampler.total_size) == (10, 3, 3, 9)


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (4, 3), (1, 2)])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_an_epoch_goes_on_with_another_number_of_ranks(before: int, after: int, steps: int) -> None:
    store = store_of(61)
    samplers = ranks_of(store, before, RandomPrune(0.8), seed=1)
    walks = [iter(sampler) for sampler in samplers]
    visited = [next(walk) for _ in range(steps) for walk in walks]
    state = json.loads(json.dumps(samplers[0].state_dict()))
    resumed = ranks_of(store, after, RandomPrune(0.8), seed=1)
    for sampler in resumed:
        sampler.load_state_dict(state)
    shares = [list(sampler) for sampler in resumed]
    assert len({len(share) for share in shares}) == 1
    planned = resumed[0].plan.indices().tolist()
    rest = [row for step in zip(*shares, strict=True) for row in step][: len(planned) - len(visited)]
    assert sorted(visited + rest) == planned
    assert [sampler.state_dict()["epoch"] for sampler in resumed] == [1] * after


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_hooks_count_of_delivered_samples_resumes_every_rank(drop_last: bool) -> None:
    """With two workers more is drawn than delivered; a state of one rank serves all."""
    store = store_of(46)
    whole = [list(sampler) for sampler in ranks_of(store, 2, KeepAll(), drop_last=drop_last)]
    first = ranks_of(store, 2, KeepAll(), drop_last=drop_last)[0]
    hook = LossHook(torch.nn.CrossEntropyLoss(), store)
    loader = DataLoader(IndexedDataset(data(46), store), sampler=first, batch_size=4, num_workers=2)
    states = [first.state_dict(delivered=hook.delivered) for _ in forgetful(hook, loader)]
    for done, state in enumerate(states, 1):
        for rank, sampler in enumerate(ranks_of(store, 2, KeepAll(), drop_last=drop_last)):
            sampler.load_state_dict(state)
            assert list(sampler) == whole[rank][4 * done :]
            assert (len(list(sampler)), sampler.epoch) == (23, 1)


def forgetful(hook: LossHook, loader: Any) -> Any:
    """Steps without a loss."""
    for batch in hook.watch(loader):
        hook.forget()
        yield batch


def test_weighted_draws_are_proportional_over_all_ranks() -> None:
    weights = np.arange(1, 41, dtype=np.float32)
    store = store_of(40)
    store.fold("l2rw", np.arange(40), weights)
    samplers = ranks_of(store, 4, Draw("l2rw", 40_000), seed=2)
    drawn = np.concatenate([list(sampler) for sampler in samplers])
    expected = 40_000 * weights / weights.sum()
    assert stats.chisquare(np.bincount(drawn, minlength=40), expected).pvalue > 1e-4
    shares = [np.bincount(list(sampler), minlength=40) for sampler in samplers]
    assert stats.chi2_contingency(shares).pvalue > 1e-4  # and no rank draws differently from the others


def test_jtts_repeats_are_visited_on_whatever_rank() -> None:
    store = store_of(20)
    store.fold("error", np.arange(20), np.arange(20) < 5)
    samplers = [
        DistributedAdaptiveSampler(JTTSampler(store, upsample=4), num_replicas=5, rank=rank) for rank in range(5)
    ]
    visits = np.bincount(np.concatenate([list(sampler) for sampler in samplers]))
    assert visits.tolist() == [4] * 5 + [1] * 15


# -- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rank", "ranks"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_that_is_none_is_refused(rank: int, ranks: int) -> None:
    with pytest.raises(InvalidValue, match=rf"rank={rank}, num_replicas={ranks}: ranks count from 0"):
        DistributedAdaptiveSampler(AdaptiveSampler(store_of(4), KeepAll()), num_replicas=ranks, rank=rank)


def test_alone_it_is_the_only_rank() -> None:
    sampler = AdaptiveSampler(store_of(4), KeepAll())
    alone = DistributedAdaptiveSampler(sampler)
    assert (alone.rank, alone.num_replicas) == (0, 1)
    assert sorted(alone) == [0, 1, 2, 3]


def test_without_the_process_group_that_the_environment_announces_the_ranks_must_be_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(NotDistributed, match=r"needs a process group.*init_process_group"):
        DistributedAdaptiveSampler(AdaptiveSampler(store_of(4), KeepAll()))


def test_only_our_samplers_are_shared() -> None:
    with pytest.raises(InvalidValue, match="pass an AdaptiveSampler"):
        DistributedAdaptiveSampler(range(4), num_replicas=2, rank=0)  # type: ignore[arg-type]


def test_blocks_within_an_epoch_are_refused_on_many_ranks() -> None:
    with pytest.raises(InvalidValue, match=r"replan=2: plans for blocks.*replan='epoch'"):
        DistributedAdaptiveSampler(PrunedSampler(store_of(4), keep=0.5, by="loss", replan=2), num_replicas=2, rank=0)


@pytest.mark.parametrize("drop_last", [False, True])
def test_each_rank_foretells_its_share_of_the_coming_epoch(drop_last: bool) -> None:
    samplers = ranks_of(store_of(27), 4, Prune(0.5, "loss"), drop_last=drop_last, warmup_epochs=1)
    for epoch in range(3):
        foretold = [sampler.upcoming_length() for sampler in samplers]
        assert [len(list(sampler)) for sampler in samplers] == foretold
        assert foretold == [(6 if drop_last else 7) if epoch == 0 else (3 if drop_last else 4)] * 4


@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_of_a_ranks_share_are_its_rows_in_order(drop_last: bool) -> None:
    store = ScoreStore.create(None, 46, [Loss()])
    for rank in range(2):
        shares = [
            DistributedAdaptiveSampler(AdaptiveSampler(store, RandomPrune(0.8)), num_replicas=2, rank=rank)
            for _ in range(2)
        ]
        batches = shares[0].batches(8, drop_last=drop_last)
        rows = list(shares[1])
        assert len(batches) == batches.upcoming_length() == (2 if drop_last else 3)
        assert list(batches) == [rows[at : at + 8] for at in range(0, 8 * len(batches), 8)]
        assert isinstance(batches, torch.utils.data.BatchSampler)
