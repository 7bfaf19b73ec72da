"""Ranks that were given the wrong store, or one that somebody else writes, are told so on every rank, with what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import ResumeError, StoreLocked
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import distributed_store, sync
from tests.torch.processes import all_failed, run, succeeded

N = 10


def opened(rank: int, paths: list[str], version: int | None = None) -> int:
    with distributed_store(paths[rank], N, [Loss()], exist_ok=True, version=version) as store:
        store.update([rank], loss=[1.0])
        sync(store)
        return store.commit()


def committed(place: Path) -> ScoreStore:
    store = ScoreStore.create(place, N, [Loss()])
    store.update(range(N), loss=np.arange(N, dtype=np.float32))
    store.commit()
    return store


def test_a_second_job_is_refused_on_every_rank_while_the_first_lives_and_may_go_on_after_it(place: Path) -> None:
    with committed(place):
        all_failed(run(2, opened, [str(place)] * 2), "is open for writing by pid")
    assert succeeded(run(2, opened, [str(place)] * 2)) == [2, 2]


def both_jobs(rank: int, path: str) -> Any:
    with distributed_store(path, N, [Loss()], exist_ok=True) as store:
        if rank == 0:
            with pytest.raises(StoreLocked, match="Close that store, or use mode='r'"):
                ScoreStore.open(path)
            ScoreStore.open(path, mode="r").close()
        sync(store)
        return store.commit()


def test_a_second_writer_is_refused_and_the_first_goes_on(place: Path) -> None:
    assert succeeded(run(2, both_jobs, str(place))) == [1, 1]


def test_a_rank_that_finds_no_store_where_the_first_has_made_one_is_told_to_share_the_path(place: Path) -> None:
    elsewhere = str(place.with_name("elsewhere"))
    first, second = run(2, opened, [str(place), elsewhere])
    told = f"rank 0 has opened a store at {elsewhere}, and rank 1 finds none: give every rank the same path"
    assert f"NoStore: {told}" in str(second)
    assert f"OutOfStep: rank 1 failed, so this rank cannot go on: NoStore: {told}" in str(first)
    assert succeeded(run(2, opened, [str(place)] * 2)) == [1, 1]


def test_ranks_that_open_different_stores_are_told_before_they_train(place: Path) -> None:
    other = place.with_name("other")
    for path in (place, other):
        committed(path).close()
    words = "OutOfStep: the ranks' stores differ: rank 1 has another than rank 0"
    results = run(2, opened, [str(place), str(other)])
    all_failed(results, words)
    all_failed(results, "give every rank the same path, on a file system that all of them see")
    assert succeeded(run(2, opened, [str(other)] * 2)) == [2, 2]


def test_a_commit_that_is_not_there_is_refused_on_every_rank_and_those_that_are_there_are_listed(place: Path) -> None:
    """As where another rank than the first wrote a checkpoint, and the first died before its commit."""
    committed(place).close()
    all_failed(run(2, opened, [str(place)] * 2, 2), "has no version 2: it has 0, 1. Open one of these.")
    assert succeeded(run(2, opened, [str(place)] * 2, 1)) == [2, 2]


def test_the_state_of_a_commit_that_was_never_written_is_refused(place: Path) -> None:
    def sampler(store: ScoreStore) -> AdaptiveSampler:
        return AdaptiveSampler(store, Prune(0.5, "loss"))

    with committed(place) as store:
        state = sampler(store).state_dict()
        with pytest.raises(
            ResumeError, match=r"saved at commit 2.*the newest commit of .* is 1.*an earlier checkpoint"
        ):
            sampler(store).load_state_dict(state | {"commit": 2})
        sampler(store).load_state_dict(state)


def test_another_batch_size_is_refused_where_plans_are_for_batches(place: Path) -> None:
    with committed(place) as store:
        walked = AdaptiveSampler(store, Prune(0.5, "loss"), replan=1)
        batches = iter(walked.batches(2))
        next(batches)
        state = walked.state_dict()
        again = AdaptiveSampler(store, Prune(0.5, "loss"), replan=1)
        again.load_state_dict(state)
        with pytest.raises(ResumeError, match="blocks of 2 rows, replan batches are now 3: resume with the batch size"):
            next(iter(again.batches(3)))
        again.load_state_dict(state)
        assert list(again.batches(2)) == list(batches)
