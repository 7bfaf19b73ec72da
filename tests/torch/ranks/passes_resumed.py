"""Loops that come back to an epoch by a state or a commit, each a script for one process or for one of some ranks."""

from collections.abc import Callable

from adaptive_sampler.torch import (
    sync,
)
from adaptive_sampler.torch.ranks.visits import skipped_by_loop
from tests.torch.ranks.one_process import STEP, Counted, Process, found, see, train


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


RESUMED: list[Callable[[Process], Counted]] = [
    there_and_back,
    rolled_back,
    resumed,
    resumed_by_skipping,
    skipped_in_process,
    resumed_by_another_sampler,
    resumed_once_begun,
    without_a_state,
]
