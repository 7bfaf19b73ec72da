"""Loops that begin an epoch anew, each a script for one process or for one of some ranks."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler import ScoreStore
from adaptive_sampler.selection import KeepAll, Upsample
from adaptive_sampler.torch import (
    IndexedDataset,
    observe,
    sync,
)
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from tests.torch.ranks.one_process import STEP, Counted, N, Process, found, see, train


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


BEGUN: list[Callable[[Process], Counted]] = [
    synced,
    unsynced,
    cycled,
    by_one_plan,
    left_early,
    left_early_unsynced,
    synced_within,
    synced_once_begun,
    begun_twice,
    peeked,
    scored_in_between,
    held_by_a_hook,
    alternating,
    nested,
    by_whole_epochs,
]
