"""What `watch` asks of its loader, and what it tells: the clock, and how many samples were delivered."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import IndexedDataset, LossHook, PrunedSampler
from tests.torch.hook.test_hook_watch import call, loader
from tests.torch.samples import dataset, make_store


@pytest.fixture
def hook():
    return LossHook(nn.MSELoss(), make_store(Loss()))


@pytest.mark.parametrize(
    "batch",
    [
        torch.ones(4),
        (torch.ones(4), torch.ones(4)),
        ([0.5, 1.5], 3),
        {"x": torch.ones(2)},
        (torch.ones(2, 2).long(), 0),
    ],
)
def test_a_batch_without_rows_is_refused_with_the_remedy(hook, batch):
    with pytest.raises(
        InvalidValue, match=r"carries no rows: \(rows, sample\) was expected. Wrap the dataset, outermost"
    ):
        next(hook.watch([batch]))


@pytest.mark.parametrize("wrap", [lambda d: Subset(d, range(4)), lambda d: ConcatDataset([d, d])])
def test_an_indexed_dataset_that_is_not_the_outermost_is_refused(hook, wrap):
    with pytest.raises(InvalidValue, match=r"around an IndexedDataset: .*must be the outermost"):
        next(hook.watch(torch.utils.data.DataLoader(wrap(IndexedDataset(dataset())), batch_size=2)))


# -- clock and count ---------------------------------------------------------------------------------------------------


def test_without_a_sampler_each_pass_is_an_epoch_of_the_clock(hook):
    epochs = []
    for _ in range(3):
        for sample in hook.watch(loader()):
            call(hook, sample)
        epochs.append((hook.epoch, set(hook.store.last_seen("loss").tolist())))
    assert epochs == [(0, {0}), (1, {1}), (2, {2})]


@pytest.mark.parametrize("by_hand", [False, True])
def test_with_a_sampler_the_clock_is_the_samplers_epoch(hook, by_hand):
    sampler = PrunedSampler(hook.store, keep=0.5, by="loss", replan="epoch")
    for epoch in (0, 5):
        if by_hand:
            sampler.set_epoch(epoch)
        for sample in hook.watch(loader(sampler=sampler)):
            call(hook, sample)
    assert hook.epoch == hook.store.last_seen("loss").max() == (5 if by_hand else 1)


def test_the_clock_may_be_set(hook):
    hook.epoch = 7
    call(hook, (torch.ones(1, 1),), [0])
    assert hook.store.last_seen("loss")[0] == 7


def test_delivered_counts_the_samples_in_the_users_hands_not_those_drawn(hook):
    sampler = PrunedSampler(hook.store, keep=1.0, by="loss")
    watched = hook.watch(loader(3, sampler=sampler, num_workers=2))
    call(hook, next(watched))
    call(hook, next(watched))
    assert (hook.delivered, sampler.state_dict()["position"]) == (6, 18)
    assert sampler.state_dict(delivered=hook.delivered)["position"] == 6
    watched.close()


def test_delivered_counts_on_from_where_a_run_was_resumed():
    store = make_store(Loss())
    saved = AdaptiveSampler(store, KeepAll())
    iterator = iter(saved)
    rows = [next(iterator) for _ in range(8)]
    sampler = AdaptiveSampler(store, KeepAll())
    sampler.load_state_dict(saved.state_dict())
    hook, delivered = LossHook(nn.MSELoss(), store), []
    for sample in hook.watch(loader(8, sampler=sampler)):
        call(hook, sample)
        delivered.append(hook.delivered)
    assert delivered == [16, 24]
    assert set(rows) == set(np.flatnonzero(store.count("loss") == 0).tolist())


@pytest.mark.parametrize(
    "recorded", [lambda h: call(h, (torch.ones(2, 1),), [0, 1]), lambda h: h.record([0], loss=[1.0])]
)
def test_delivered_of_rows_that_no_watch_delivered_is_an_error_with_the_remedy(hook, recorded):
    recorded(hook)
    with pytest.raises(
        InvalidValue, match=r"these rows came by rows= or record: it would say 0. Watch the loader, or count"
    ):
        _ = hook.delivered


def test_delivered_before_anything_is_nothing(hook):
    assert hook.delivered == 0


def test_rows_recorded_beside_a_watched_loader_leave_delivered_alone(hook):
    for sample in hook.watch(loader(4)):
        call(hook, sample)
    hook.record([0], loss=[1.0])
    assert hook.delivered == len(hook.store)


def test_each_run_of_one_hook_has_a_clock_that_begins_at_zero(hook):
    clock = []
    for run in ("a", "b"):
        hook.store.begin_run(run)
        for epoch in range(2):
            for sample in hook.watch(loader()):
                call(hook, sample)
            clock.append((run, epoch, hook.store.epoch))
    assert clock == [("a", 0, 0), ("a", 1, 1), ("b", 0, 0), ("b", 1, 1)]


def test_a_run_begun_again_by_its_name_goes_on_with_its_clock(hook):
    clock = []
    for _ in range(2):
        hook.store.begin_run("a")
        for sample in hook.watch(loader()):
            call(hook, sample)
        clock.append(hook.epoch)
    assert clock == [0, 1]


class Stream(IterableDataset):
    """Rows with their samples, without an index."""

    def __iter__(self):
        return iter([(row, torch.tensor([float(row)])) for row in range(8)])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_counts_the_epochs_of_each_run(hook, workers):
    clock = []
    for run in ("a", "b"):
        hook.store.begin_run(run)
        for _ in range(2):
            for inputs in hook.watch(DataLoader(Stream(), batch_size=4, num_workers=workers)):
                call(hook, (inputs,))
            clock.append((hook.epoch, hook.delivered))
    assert clock == [(0, 8), (1, 8)] * 2
