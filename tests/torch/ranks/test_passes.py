"""A loop that begins an epoch anew on ranks: each pass counts as in one process, but for padding, whoever began it and when."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EMA, Loss
from adaptive_sampler.selection import KeepAll, Upsample
from adaptive_sampler.torch import (
    DistributedAdaptiveSampler,
    IndexedDataset,
    distributed_store,
    observe,
    sync,
)
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.ranks.visits import skipped_by_loop
from tests.torch.processes import run, succeeded

N, STEP = 11, 4  # odd, so that two ranks are padded; the samples of a step, of all ranks together
RANKS = 2

Counted = tuple[list[int], list[float]]


class Process(NamedTuple):
    """One of `ranks` processes, which runs one script after another, each with a store of its own below `folder`."""

    rank: int
    ranks: int
    folder: str

    def opened(self, name: str, **how: Any) -> ScoreStore:
        return distributed_store(f"{self.folder}/{name}", N, [Loss(fold=EMA())], **how)

    def meet(self) -> None:
        if self.ranks > 1:
            dist.barrier()

    def again(self, store: ScoreStore, name: str) -> ScoreStore:
        """The store as another process opens it that goes on from the commit."""
        store.commit()
        store.close()
        self.meet()
        return self.opened(name, exist_ok=True)

    def walker(self, store: ScoreStore, policy: Any = None, **how: Any) -> DistributedAdaptiveSampler:
        inner = AdaptiveSampler(store, policy or KeepAll(), seed=3, **how)
        return DistributedAdaptiveSampler(inner, num_replicas=self.ranks, rank=self.rank)

    def steps(self, sampler: DistributedAdaptiveSampler) -> Any:
        return iter(sampler.batches(STEP // self.ranks))


def see(store: ScoreStore, rows: Any, nth: int = 0) -> None:
    """Observe losses that differ from pass to pass, so that their moving mean tells the order."""
    store.update(rows, loss=np.sin((np.asarray(rows) + 1) * 12.9898 + nth) + 1)


def found(store: ScoreStore) -> Counted:
    return store.count("loss").tolist(), store["loss"].tolist()


def train(process: Process, store: ScoreStore, sampler: Any, nth: int = 0, steps: int | None = None) -> None:
    for step, rows in enumerate(process.steps(sampler)):
        if step == steps:
            break
        see(store, rows, nth)


# -- the scripts ------------------------------------------------------------------------------------------------------


def synced(process: Process) -> Counted:
    store = process.opened("synced")
    sampler = process.walker(store)
    for nth in range(3):
        sampler.set_epoch(0)
        train(process, store, sampler, nth)
        sync(store, sampler)
    return found(store)


def unsynced(process: Process) -> Counted:
    store = process.opened("unsynced")
    sampler = process.walker(store)
    for nth in range(3):
        sampler.set_epoch(0)
        train(process, store, sampler, nth)
    sync(store, sampler)
    return found(store)


def cycled(process: Process) -> Counted:
    store = process.opened("cycled")
    sampler = process.walker(store, num_samples=25)
    for nth in range(2):
        sampler.set_epoch(0)
        train(process, store, sampler, nth)
    sync(store, sampler)
    return found(store)


def by_one_plan(process: Process) -> Counted:
    store = process.opened("by_one_plan")
    rows = np.arange(process.rank, N, process.ranks)
    store.update(rows, loss=rows % 2)
    sync(store)
    sampler = process.walker(store, Upsample(3, "loss"), replan="once")
    for nth in range(4):
        sampler.set_epoch(nth // 2)
        train(process, store, sampler, nth)
        sync(store, sampler)
    return found(store)


def left_early(process: Process) -> Counted:
    store = process.opened("left_early")
    sampler = process.walker(store)
    train(process, store, sampler, steps=2)
    sync(store, sampler)
    sampler.set_epoch(0)
    train(process, store, sampler, 1)
    sync(store, sampler)
    return found(store)


def left_early_unsynced(process: Process) -> Counted:
    store = process.opened("left_early_unsynced")
    sampler = process.walker(store)
    for nth, steps in enumerate((2, None)):
        sampler.set_epoch(0)
        train(process, store, sampler, nth, steps)
    sync(store, sampler)
    return found(store)


def synced_within(process: Process) -> Counted:
    store = process.opened("synced_within")
    sampler = process.walker(store)
    for nth in range(2):
        sampler.set_epoch(0)
        for rows in process.steps(sampler):
            see(store, rows, nth)
            sync(store, sampler)
    return found(store)


def synced_once_begun(process: Process) -> Counted:
    """As where a loader has drawn the next pass's first batch before the sync."""
    store = process.opened("synced_once_begun")
    sampler = process.walker(store)
    train(process, store, sampler)
    sampler.set_epoch(0)
    steps = process.steps(sampler)
    first = next(steps)
    sync(store, sampler)
    for rows in (first, *steps):
        see(store, rows, 1)
    sync(store, sampler)
    return found(store)


def begun_twice(process: Process) -> Counted:
    """As by Lightning, Composer and Accelerate, whose first iterator is not trained on."""
    store = process.opened("begun_twice")
    sampler = process.walker(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for nth in range(2):
            for _ in range(2):
                sampler.set_epoch(0)
                steps = process.steps(sampler)
                first = next(steps)
            for rows in (first, *steps):
                see(store, rows, nth)
                sync(store, sampler)
    return found(store)


def peeked(process: Process) -> Counted:
    """The first rank alone looks at a batch before the training."""
    store = process.opened("peeked")
    sampler = process.walker(store)
    if process.rank == 0:
        next(process.steps(sampler))
    for nth in range(2):
        sampler.set_epoch(0)
        train(process, store, sampler, nth)
        sync(store, sampler)
    return found(store)


def scored_in_between(process: Process) -> Counted:
    store = process.opened("scored_in_between")
    sampler = process.walker(store)
    samples = TensorDataset(torch.zeros(N, 1), torch.zeros(N, dtype=torch.int64))
    for nth in range(2):
        sampler.set_epoch(0)
        train(process, store, sampler, nth)
        mine = DataLoader(IndexedDataset(samples), STEP, sampler=range(process.rank, N, process.ranks))
        observe(torch.nn.Linear(1, 2, bias=False), mine, store, progress=False)
    sync(store, sampler)
    return found(store)


def held_by_a_hook(process: Process) -> Counted:
    """As on a GPU, from which a hook has a step's values some steps later, and where a state is loaded between."""
    store = process.opened("held_by_a_hook")
    sampler = process.walker(store)
    hook = Holding(store)
    next(process.steps(sampler))
    state = sampler.state_dict(delivered=0)
    process.meet()  # for the first rank to have saved the plan
    for nth in range(2):
        sampler.load_state_dict(state)
        steps = list(process.steps(sampler))
        hook.held += [(rows, nth) for rows in steps]
    sync(store, sampler)
    return found(store)


class Holding:
    """Holds all rows, with their pass, until the store asks for them."""

    def __init__(self, store: ScoreStore) -> None:
        self.store = store
        self.held: list[tuple[Any, int]] = []
        store.session.register(self)

    def flush(self) -> None:
        held, self.held = self.held, []
        for rows, nth in held:
            see(self.store, rows, nth)


def alternating(process: Process) -> Counted:
    store = process.opened("alternating")
    one, two = process.walker(store), process.walker(store)
    for nth in range(2):
        for sampler in (one, two):
            sampler.set_epoch(0)
            train(process, store, sampler, nth)
            sync(store, sampler)
    return found(store)


def nested(process: Process) -> Counted:
    store = process.opened("nested")
    outer, inside = process.walker(store), process.walker(store)
    for nth in range(2):
        outer.set_epoch(0)
        for rows in process.steps(outer):
            see(store, rows, nth)
            sync(store, outer)
            inside.set_epoch(0)
            train(process, store, inside, nth)
            sync(store, inside)
    return found(store)


def by_whole_epochs(process: Process) -> Counted:
    store = process.opened("by_whole_epochs")
    sampler = AdaptiveSampler(store, KeepAll(), seed=3)
    for nth in range(2):
        sampler.set_epoch(0)
        rows = np.array(list(sampler.epoch_rows()))
        padded = np.concatenate([rows, rows[: -N % process.ranks]])
        see(store, padded[process.rank :: process.ranks], nth)
    sync(store, sampler)
    return found(store)


def there_and_back(process: Process) -> Counted:
    store = process.opened("there_and_back")
    sampler = process.walker(store)
    train(process, store, sampler)
    sync(store, sampler)
    sampler.set_epoch(1)
    sampler.set_epoch(0)
    train(process, store, sampler, 1)
    sync(store, sampler)
    return found(store)


def rolled_back(process: Process) -> Counted:
    """As where a training goes bad, and goes on from its last state in the same process."""
    store = process.opened("rolled_back")
    sampler = process.walker(store)
    train(process, store, sampler, steps=2)
    state = sampler.state_dict(delivered=STEP // process.ranks)
    process.meet()  # for the first rank to have saved the plan
    for nth in range(2):
        sampler.load_state_dict(state)
        train(process, store, sampler, nth + 1)
    sync(store, sampler)
    return found(store)


def resumed(process: Process) -> Counted:
    """From a commit amid the second pass."""
    store = process.opened("resumed")
    sampler = process.walker(store)
    train(process, store, sampler)
    sync(store, sampler)
    sampler.set_epoch(0)
    train(process, store, sampler, 1, steps=2)
    sync(store, sampler)
    state = sampler.state_dict(delivered=2 * STEP // process.ranks)
    store = process.again(store, "resumed")
    sampler = process.walker(store)
    sampler.load_state_dict(state)
    train(process, store, sampler, 1)
    sync(store, sampler)
    return found(store)


def resumed_by_skipping(process: Process) -> Counted:
    """By a loader that draws the second pass from its start, and skips what was trained on; then the epoch anew."""
    store = process.opened("resumed_by_skipping")
    sampler = process.walker(store)
    train(process, store, sampler)
    sync(store, sampler)
    sampler.set_epoch(0)
    train(process, store, sampler, 1, steps=2)
    sync(store, sampler)
    state = sampler.state_dict(delivered=0) | {"counts": "drawn"}
    store = process.again(store, "resumed_by_skipping")
    sampler = process.walker(store)
    sampler.load_state_dict(state)
    for rows in list(process.steps(sampler))[2:]:
        see(store, rows, 1)
    sync(store, sampler)
    sampler.set_epoch(0)
    train(process, store, sampler, 2)
    sync(store, sampler)
    return found(store)


def skipped_in_process(process: Process) -> Counted:
    """By a loop that skips by itself and says so, as Hugging Face's does, in the process that trained before."""
    store = process.opened("skipped_in_process")
    sampler = process.walker(store)
    train(process, store, sampler, steps=2)
    sync(store, sampler)
    state = sampler.state_dict(delivered=0)
    process.meet()  # for the first rank to have saved the plan
    sampler.load_state_dict(state)
    skipped_by_loop(sampler.sampler, 2 * STEP)
    for rows in list(process.steps(sampler))[2:]:
        see(store, rows)
    sync(store, sampler)
    return found(store)


def resumed_by_another_sampler(process: Process) -> Counted:
    """In the process that committed, by a loader that draws the epoch from its start, and skips what was trained on."""
    store = process.opened("resumed_by_another_sampler")
    sampler = process.walker(store)
    train(process, store, sampler, steps=2)
    sync(store, sampler)
    state = sampler.state_dict(delivered=0) | {"counts": "drawn"}
    store.commit()
    process.meet()
    sampler = process.walker(store)
    sampler.load_state_dict(state)
    for rows in list(process.steps(sampler))[2:]:
        see(store, rows)
    sync(store, sampler)
    return found(store)


def resumed_once_begun(process: Process) -> Counted:
    """From a commit before the second pass's first step, whose batch was drawn."""
    store = process.opened("resumed_once_begun")
    sampler = process.walker(store)
    train(process, store, sampler)
    sync(store, sampler)
    sampler.set_epoch(0)
    drawn = process.steps(sampler)
    next(drawn)
    state = sampler.state_dict(delivered=0)
    store = process.again(store, "resumed_once_begun")
    sampler = process.walker(store)
    sampler.load_state_dict(state)
    train(process, store, sampler, 1)
    sync(store, sampler)
    return found(store)


def without_a_state(process: Process) -> Counted:
    """Each pass by a process of its own, which opens the commit and begins the same epoch."""
    store = process.opened("without_a_state")
    for nth in range(2):
        sampler = process.walker(store)
        sampler.set_epoch(0)
        train(process, store, sampler, nth)
        sync(store, sampler)
        store = process.again(store, "without_a_state")
    return found(store)


SCRIPTS: list[Callable[[Process], Counted]] = [
    *(synced, unsynced, cycled, by_one_plan, left_early, left_early_unsynced, synced_within, synced_once_begun),
    *(
        begun_twice,
        peeked,
        scored_in_between,
        held_by_a_hook,
        alternating,
        nested,
        by_whole_epochs,
        there_and_back,
        rolled_back,
    ),
    *(
        resumed,
        resumed_by_skipping,
        skipped_in_process,
        resumed_by_another_sampler,
        resumed_once_begun,
        without_a_state,
    ),
]


def all_of(rank: int, folder: str) -> dict[str, Counted]:
    return {script.__name__: script(Process(rank, RANKS, folder)) for script in SCRIPTS}


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Counted]]:
    """What each rank found by each script, all in one group of processes."""
    return succeeded(run(RANKS, all_of, str(tmp_path_factory.mktemp("stores"))))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_each_pass_over_an_epoch_counts_as_in_one_process(
    script: Callable[[Process], Counted], on_ranks: list[dict[str, Counted]], tmp_path: Path
) -> None:
    counts, means = script(Process(0, 1, str(tmp_path)))
    for rank in on_ranks:
        assert rank[script.__name__] == (counts, means)
