"""A rank dies at some moment: the others end soon with an error that names it, and whatever was committed is whole."""

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import RankLost, StoreError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.torch import distributed_store, sync
from tests.torch.processes import Failed, run, succeeded

N, RANKS = 12, 3
CALLS = 9  # collectives of one sync whose journals fit into a round
FSYNCS = 17  # of one commit
WORDS = "is gone: it does not answer, so this rank cannot go on. What was committed is whole: start the processes again"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def user_error() -> None:
    raise ValueError("an error of the training's own")


def at_call(number: int, of: Any, name: str, act: Callable[[], None]) -> list[int]:
    """From now on this process acts instead of making call `number` of a function -> a list that grows with each call."""
    called: list[int] = []
    function = getattr(of, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        called.append(1)
        if len(called) == number + 1:
            act()
        return function(*arguments, **options)

    setattr(of, name, counted)
    return called


def committed_once(path: str) -> ScoreStore:
    """A store with a commit, and with updates of every rank that are not shared yet."""
    store = distributed_store(path, N, [Loss()])
    rank = dist.get_rank()
    store.update(np.arange(N), loss=np.full(N, rank))
    sync(store)
    store.commit("before")
    store.update([rank], loss=[7.0])
    return store


def lost(results: list[Any], dead: int, words: str = WORDS) -> None:
    """Every rank but `dead` raised an error of ours that names it, and it alone."""
    for rank in set(range(len(results))) - {dead}:
        assert isinstance(results[rank], Failed), f"rank {rank} returned {results[rank]}"
        assert f"RankLost: rank {dead} {words}" in str(results[rank])


def whole(path: Path, loss: tuple[float, ...] = (RANKS - 1.0,) * N) -> None:
    """The store is as it was committed, with this loss, and goes on."""
    with ScoreStore.open(path) as store:
        assert [v.note for v in store.versions()] == ["before"]
        assert store["loss"].tolist() == list(loss)
        assert store.commit() == 2


def dies_in_sync(rank: int, path: str, dead: int, number: int, act: Callable[[], None]) -> int:
    store = committed_once(path)
    calls = at_call(number if rank == dead else -2, dist, "all_gather", act)
    sync(store)
    return len(calls)


@pytest.mark.parametrize("number", range(CALLS))
def test_a_rank_killed_between_any_two_collectives_of_a_sync_is_named(place: Path, number: int) -> None:
    results = run(RANKS, dies_in_sync, str(place), number % RANKS, number, die)
    assert results[number % RANKS] is None
    lost(results, number % RANKS)
    whole(place)


def test_a_sync_has_no_other_collectives(place: Path) -> None:
    assert succeeded(run(RANKS, dies_in_sync, str(place), 0, CALLS, die)) == [CALLS] * RANKS


@pytest.mark.parametrize("act", [stopped, user_error])
def test_a_rank_that_is_stopped_or_raises_is_named(place: Path, act: Callable[[], None]) -> None:
    lost(run(RANKS, dies_in_sync, str(place), 1, 4, act), 1)
    whole(place)


def dies_before_sync(rank: int, path: str, late: int) -> None:
    store = committed_once(path)
    if rank == 1:
        die()
    if rank == late:
        time.sleep(1)  # still in its epoch, while the other waits already
    sync(store)


@pytest.mark.parametrize("late", [-1, 2])
def test_a_rank_that_dies_in_its_epoch_is_named(place: Path, late: int) -> None:
    lost(run(RANKS, dies_before_sync, str(place), late), 1)
    whole(place)


def two_die(rank: int, path: str) -> None:
    store = committed_once(path)
    if rank:
        die()
    sync(store)


def test_ranks_that_died_together_are_all_named(place: Path) -> None:
    first = run(RANKS, two_die, str(place))[0]
    assert "RankLost: ranks 1, 2 do not answer: each is gone, or was not waiting for the others" in str(first)
    whole(place)


def never_comes(rank: int, path: str) -> None:
    """A rank lives and is silent: as a dead one looks to NCCL, which is told of no broken connection."""
    store = committed_once(path)
    group = dist.new_group(timeout=timedelta(seconds=5))
    dist.barrier()
    if rank == 1:
        group.get_group_store().wait([f"adaptive_sampler/lost/{other}" for other in (0, 2)], timedelta(seconds=60))
        return
    sync(store, group=group)


def test_a_rank_that_never_comes_is_named_within_the_groups_timeout(place: Path) -> None:
    lost(run(RANKS, never_comes, str(place)), 1)
    whole(place)


def dies_in_distributed_store(rank: int, path: str) -> None:
    at_call(1 if rank == 2 else -2, dist, "all_gather", die)
    distributed_store(path, N, [Loss()], exist_ok=True)


def test_a_rank_that_dies_while_the_store_is_opened_is_named(place: Path) -> None:
    with ScoreStore.create(place, N, [Loss()]) as store:
        store.commit()
    lost(run(RANKS, dies_in_distributed_store, str(place)), 2)


# -- in a commit, which the first rank makes alone ----------------------------------------------------------------------


def dies_in_commit(rank: int, path: str, number: int) -> None:
    store = committed_once(path)
    sync(store)
    at_call(number if rank == 0 else -2, os, "fsync", die)
    store.commit("second")
    store.update([rank], loss=[8.0])
    sync(store)


@pytest.mark.parametrize("number", [0, 4, FSYNCS - 1])
def test_the_first_rank_killed_in_a_commit_is_named_and_leaves_a_whole_store(place: Path, number: int) -> None:
    lost(run(RANKS, dies_in_commit, str(place), number), 0)
    with ScoreStore.open(place) as store:
        notes = [v.note for v in store.versions()]
        assert notes == ["before", "second"][: max(len(notes), 1)]
        first = [7.0] * RANKS if len(notes) == 2 else [2.0] * RANKS
        assert store["loss"].tolist() == [*first, *[2.0] * (N - RANKS)]


def dies_after_commit(rank: int, path: str) -> None:
    store = committed_once(path)
    sync(store)
    store.commit("second")
    if rank == 0:
        die()
    store.update([rank], loss=[8.0])
    sync(store)


def test_what_was_committed_before_the_first_rank_died_is_there(place: Path) -> None:
    lost(run(RANKS, dies_after_commit, str(place)), 0)
    with ScoreStore.open(place) as store:
        assert store.version == 2
        assert store["loss"].tolist() == [7.0] * RANKS + [2.0] * (N - RANKS)


def after_the_error(rank: int, path: str) -> Any:
    store = committed_once(path)
    if rank == 1:
        die()
    with pytest.raises(RankLost) as caught:
        sync(store)
    with pytest.raises(StoreError, match="a commit is wanted"):
        store.commit()
    return str(caught.value.__cause__)


def test_a_rank_that_goes_on_after_the_error_keeps_what_torch_said_and_commits_no_half_of_a_sync(place: Path) -> None:
    assert "gloo" in run(2, after_the_error, str(place))[0]
    whole(place, (1.0,) * N)
