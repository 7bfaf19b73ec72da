"""Accelerate: our helper goes on from every batch, loops that break are counted, and what it would do by itself is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import ResumeError, SelectionLost
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune, RandomPrune
from adaptive_sampler.torch import IndexedDataset, LossHook, check
from adaptive_sampler.torch import accelerate as ours
from adaptive_sampler.torch.data.samplers import AdaptiveSampler as TorchSampler
from tests.torch.processes import run, succeeded
from tests.torch.training import data, tee

N, SIZE, EPOCHS = 46, 8, 3


class Run:
    """A prepared loader over a sampler of its own."""

    def __init__(
        self,
        store: ScoreStore,
        policy: Any = None,
        *,
        batches: bool = False,
        drop_last: bool = False,
        workers: int = 0,
        stateful: bool = False,
        even: bool = True,
    ) -> None:
        settings = DataLoaderConfiguration(use_stateful_dataloader=stateful, even_batches=even)
        machine = Accelerator(cpu=True, dataloader_config=settings)
        self.sampler = TorchSampler(store, policy or RandomPrune(0.8), seed=4)  # 37 rows
        drawn: dict[str, Any] = {"sampler": self.sampler, "batch_size": SIZE, "drop_last": drop_last}
        if batches:
            drawn = {"batch_sampler": self.sampler.batches(SIZE, drop_last=drop_last)}
        self.loader: Any = machine.prepare(DataLoader(IndexedDataset(data(N), store), num_workers=workers, **drawn))
        self.hook = LossHook(nn.CrossEntropyLoss(), store)

    def walk(self, watched: bool, stop: int | None = None) -> Any:
        """A pass; yields each batch's rows while the loop holds that batch."""
        note: list[list[int]] = []
        loader = tee(self.loader, note)
        for _ in self.hook.watch(loader) if watched else loader:
            if watched:
                self.hook.forget()
            yield note[-1]
            if len(note) == stop:
                break


SHAPES = [
    {},
    {"drop_last": True},
    {"batches": True, "drop_last": True},
    {"workers": 1},
    {"stateful": True, "workers": 1},
    {"stateful": True, "batches": True, "drop_last": True},
]


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_helper_goes_on_from_every_batch_and_every_end(place: Path, shape: Any, watched: bool) -> None:
    store = ScoreStore.create(place, N, [Loss()])
    training, whole, points = Run(store, **shape), [], []
    for epoch in range(EPOCHS):
        batches = []
        for rows in training.walk(watched=True):
            batches.append(rows)
            points.append((epoch, len(batches), json.dumps(ours.state_dict(training.loader, training.hook.delivered))))
        whole.append(batches)
        points.append((epoch + 1, 0, json.dumps(ours.state_dict(training.loader, training.hook.delivered))))
    for epoch, done, state in points:
        again = Run(store, **shape)
        ours.load_state_dict(again.loader, json.loads(state))
        rest = [list(again.walk(watched)) for _ in range(epoch, EPOCHS)]
        expected = [part[done:] if number == epoch else part for number, part in enumerate(whole)][epoch:]
        assert rest == expected, f"resumed after batch {done} of epoch {epoch}"


def test_our_own_batches_without_torchs_type_resume_too(place: Path) -> None:
    store = ScoreStore.create(place, N, [Loss()])

    def prepared() -> tuple[AdaptiveSampler, Any]:
        sampler = AdaptiveSampler(store, RandomPrune(0.8), seed=4)
        loader = DataLoader(IndexedDataset(data(N), store), batch_sampler=sampler.batches(SIZE))
        return sampler, Accelerator(cpu=True).prepare(loader)

    _, loader = prepared()
    rows: list[list[int]] = []
    for step, _ in enumerate(LossHook(nn.CrossEntropyLoss(), store).watch(tee(loader, rows))):
        if step == 1:
            state = ours.state_dict(loader, 2 * SIZE)
    _, again = prepared()
    ours.load_state_dict(again, state)
    assert [batch.tolist() for batch, _ in again] == rows[2:]


def test_a_dispatcher_which_takes_no_empty_pass_goes_on_with_the_next_epoch(place: Path) -> None:
    store = ScoreStore.create(place, N, [Loss()])

    def prepared() -> tuple[TorchSampler, Any]:
        machine = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=True))
        sampler = TorchSampler(store, RandomPrune(0.8), seed=4)
        return sampler, machine.prepare(DataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler))

    _, loader = prepared()
    states, epochs = [], []
    for _ in range(2):
        rows: list[list[int]] = []
        hook = LossHook(nn.CrossEntropyLoss(), store)
        for _ in hook.watch(tee(loader, rows)):
            hook.forget()
            states.append(ours.state_dict(loader, hook.delivered))
        epochs.append(rows)
    again, loader = prepared()
    ours.load_state_dict(loader, states[4])  # in the last batch of epoch 0
    assert again.epoch == 1
    assert [batch.tolist() for batch, _ in loader] == epochs[1]


def on_two(rank: int, path: str, shape: Any) -> Any:
    store = ScoreStore.open(path, mode="r")
    training, whole, points = Run(store, even=False, **shape), [], []
    for epoch in range(2):
        batches = []
        for rows in training.walk(watched=True):
            batches.append(rows)
            points.append((epoch, len(batches), ours.state_dict(training.loader, training.hook.delivered)))
        whole.append(batches)
    for epoch, done, state in points:
        again = Run(store, even=False, **shape)
        ours.load_state_dict(again.loader, state)
        rest = [list(again.walk(watched=True)) for _ in range(epoch, 2)]
        assert rest == [part[done:] if number == epoch else part for number, part in enumerate(whole)][epoch:]
    return whole


def test_two_processes_go_on_from_every_batch(place: Path) -> None:
    ScoreStore.create(place, N, [Loss()]).close()
    one, two = succeeded(run(2, on_two, str(place), {"drop_last": True}))
    assert [len(batches) for batches in one] == [len(batches) for batches in two] == [2, 2]


@pytest.mark.parametrize("stateful", [False, True])
def test_a_watched_loop_that_leaves_every_epoch_early_goes_on_to_the_next(place: Path, stateful: bool) -> None:
    store = ScoreStore.create(place, N, [Loss()])
    training = Run(store, stateful=stateful)
    first = [list(training.walk(watched=True, stop=2)) for _ in range(4)]
    assert training.sampler.epoch == 3
    assert len({tuple(map(tuple, rows)) for rows in first}) == 4
    assert len(list(training.walk(watched=True))) == 5  # and a whole one
    assert training.sampler.epoch == 4


def test_a_loop_that_leaves_early_and_is_not_watched_is_warned_of(place: Path) -> None:
    training = Run(ScoreStore.create(place, N, [Loss()]))
    for _ in range(2):
        next(training.walk(watched=False))
    with pytest.warns(RuntimeWarning, match=r"epoch 0 is begun 3 times, and was left after 16 of 37.*LossHook\.watch"):
        next(training.walk(watched=False))


def test_a_loop_that_leaves_early_may_count_for_the_loader_itself(place: Path) -> None:
    training = Run(ScoreStore.create(place, N, [Loss()]))
    orders = []
    for epoch in range(4):
        training.loader.iteration = epoch
        orders.append(next(training.walk(watched=False)))
    assert training.sampler.epoch == 3
    assert len(set(map(tuple, orders))) == 4


def scored_after_preparing(place: Path) -> tuple[ScoreStore, Run]:
    """The loader is prepared, and draws for its state, before there are scores."""
    store = ScoreStore.create(place, N, [Loss()])
    training = Run(store, Prune(0.5, by="loss"), stateful=True, workers=2)
    store.update(np.arange(N), loss=np.arange(N))
    return store, training


def test_a_plan_is_made_when_a_watched_loop_begins_not_when_a_loader_is_prepared(place: Path) -> None:
    _, training = scored_after_preparing(place)
    rows = [row for batch in training.walk(watched=True) for row in batch]
    assert sorted(rows) == list(range(N // 2, N))
    assert training.sampler.epoch == 0


def test_a_loop_that_is_not_watched_refuses_a_plan_older_than_the_scores(place: Path) -> None:
    _, training = scored_after_preparing(place)
    with pytest.raises(
        ResumeError, match=r"drew 32 samples of epoch 0 before its loop began.*LossHook\.watch\(loader\)"
    ):
        list(training.walk(watched=False))


def test_a_loader_prepared_once_the_scores_are_there_needs_no_watch(place: Path) -> None:
    store = ScoreStore.create(place, N, [Loss()])
    store.update(np.arange(N), loss=np.arange(N))
    training = Run(store, Prune(0.5, by="loss"), stateful=True, workers=2)
    rows = [row for batch in training.walk(watched=False) for row in batch]
    assert sorted(rows) == list(range(N // 2, N))


@pytest.mark.parametrize("stateful", [False, True])
def test_check_says_that_only_ours_is_exact(place: Path, stateful: bool) -> None:
    store = ScoreStore.create(place, N, [Loss()])
    training = Run(store, stateful=stateful)
    loader = training.loader if stateful else skip_first_batches(training.loader, 2)
    what = "is kept by accelerator.save_state" if stateful else "skips 2 batches"
    with pytest.warns(
        RuntimeWarning, match=rf"{what}.*restores no plan.*adaptive_sampler\.torch\.accelerate\.SamplerCheckpoint"
    ):
        check(loader)


def test_skipping_batches_of_a_resumed_epoch_is_refused(place: Path) -> None:
    store = ScoreStore.create(place, N, [Loss()])
    training = Run(store)
    for _ in training.walk(watched=True, stop=2):
        state = ours.state_dict(training.loader, training.hook.delivered)
    again = Run(store)
    ours.load_state_dict(again.loader, state)
    with pytest.raises(
        SelectionLost, match=r"skips 2 batches, and the sampler goes on at sample 16.*Leave skip_first_batches"
    ):
        check(skip_first_batches(again.loader, 2))
    check(again.loader)
