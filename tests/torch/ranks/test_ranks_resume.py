"""A checkpoint that any rank wrote resumes all of them, whichever of the two samplers was asked for its state."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import ResumeError
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, LossHook, distributed_store, sync
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from tests.torch.processes import run, succeeded
from tests.torch.training import data, tee

N, EPOCHS = 46, 2


def train(rank: int, path: str, saved: str | None, asked: str) -> Any:
    """Train on two ranks -> the rows of each step, a checkpoint made in each, and what the commits returned."""
    goes_on = json.loads(saved) if saved else None
    store = distributed_store(path, N, [Loss()], version=goes_on and goes_on["commit"])
    inner = AdaptiveSampler(store, Prune(0.6, by="loss"), seed=3, warmup_epochs=1)
    dealt = DistributedAdaptiveSampler(inner)
    sampler: Any = {"inner": inner, "outer": dealt}[asked]
    loader = DataLoader(IndexedDataset(data(N), store), batch_size=5, sampler=dealt)
    model, hook = nn.Linear(6, 3), LossHook(nn.CrossEntropyLoss(), store)
    model.load_state_dict({"weight": data(3)[:][0], "bias": data(3)[:][1].float()})
    if goes_on:
        sampler.load_state_dict(goes_on["walk"])
    rows: list[list[int]] = []
    saves, commits = [], []
    while inner.epoch < EPOCHS:
        for inputs, labels in hook.watch(tee(loader, rows)):
            hook(model(inputs), labels).backward()
            sync(store, dealt)
            commits.append(store.commit())
            walk = sampler.state_dict(delivered=hook.delivered)
            saves.append(json.dumps({"commit": commits[-1], "walk": walk}))
        dealt.set_epoch(inner.epoch + 1)
    return rows, saves, commits, store["loss"].tolist()


@pytest.mark.parametrize("asked", ["inner", "outer"])
def test_the_checkpoint_of_the_second_rank_resumes_both(place: Path, asked: str) -> None:
    one, two = succeeded(run(2, train, str(place), None, asked))
    assert one[2] == two[2] == list(range(1, len(one[2]) + 1))
    for step in (2, 4, 6):  # in the first epoch, its last batch, and in the second
        again = succeeded(run(2, train, str(place), two[1][step], asked))
        for rank, whole in enumerate((one, two)):
            assert again[rank][0] == whole[0][step + 1 :]
            assert again[rank][3] == whole[3]


def test_the_states_of_all_ranks_are_one(place: Path) -> None:
    one, two = succeeded(run(2, train, str(place), None, "inner"))
    assert one[1] == two[1]


def test_a_store_older_than_a_rank_s_state_refuses_it(place: Path) -> None:
    saves = succeeded(run(2, train, str(place), None, "outer"))[1][1]
    with ScoreStore.open(place, version=1, mode="r") as store, pytest.raises(ResumeError, match="saved at commit 3"):
        AdaptiveSampler(store, Prune(0.6, by="loss"), seed=3, warmup_epochs=1).load_state_dict(
            json.loads(saves[2])["walk"]
        )


def test_a_frozen_store_that_longer_training_fed_resumes_in_its_first_epochs(place: Path) -> None:
    """Just Train Twice's second stage reads the first one's mistakes, and its clock begins at 0."""
    with ScoreStore.create(place, N, [Loss()]) as first:
        first.update(range(N), loss=[float(row) for row in range(N)], epoch=5)
        first.epoch = 5
        first.commit()
    for mode in ("r", "r+"):
        with ScoreStore.open(place, mode=mode) as store:  # type: ignore[arg-type]
            sampler = AdaptiveSampler(store, Prune(0.5, by="loss"), replan="once")
            walk = iter(sampler)
            done = [next(walk) for _ in range(10)]
            state = json.dumps(sampler.state_dict(delivered=10))
            rest = list(walk)
        with ScoreStore.open(place, mode=mode) as store:  # type: ignore[arg-type]
            again = AdaptiveSampler(store, Prune(0.5, by="loss"), replan="once")
            again.load_state_dict(json.loads(state))
            assert list(again) == rest
            assert sorted(done + rest) == list(range(N // 2, N))


def keep_one(rank: int, path: str) -> list[float]:
    """Commit twice on each rank, keeping one version -> a score that was only read afterwards, on the second rank last."""
    store = distributed_store(path, N, [EL2N(), Loss()], version=1)
    for step in range(2):
        store.fold("loss", [rank], [step])
        sync(store)
        store.commit(keep=1)
    sync(store)  # the first rank has dropped what the second had opened
    return store["el2n"].tolist()


def test_ranks_read_every_score_after_the_version_that_they_opened_was_dropped(place: Path) -> None:
    with ScoreStore.create(place, N, [EL2N(), Loss()]) as store:
        store.fold("el2n", range(N), range(N))
        store.commit()
    assert succeeded(run(2, keep_one, str(place))) == [list(range(N))] * 2
