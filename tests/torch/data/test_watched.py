"""What `watch` returns stands in for the loader: as long, iterated as often, with its attributes, but without the rows."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import L2RW, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import AdaptiveSampler, IndexedDataset, L2RWLoss, LossHook, check
from tests.torch.samples import CLASSES, N, dataset, make_store

BATCH, BATCHES = 5, 5


class Stream(IterableDataset):
    """(row, sample), and no length."""

    def __iter__(self):
        return ((i, torch.zeros(2)) for i in range(4))


@pytest.fixture
def hook():
    return LossHook(nn.CrossEntropyLoss(), make_store(Loss()))


def loader(**arguments):
    return DataLoader(IndexedDataset(dataset()), BATCH, **arguments)


def log_every(iterable, print_freq):
    """The loop of `MetricLogger.log_every` in torchvision's references, without what it prints."""
    width = len(str(len(iterable)))
    for i, obj in enumerate(iterable):
        yield obj
        if i % print_freq == 0:
            f"{i:{width}} of {len(iterable)}"


def train(hook, batches, model):
    """One pass over `batches` -> how many they were."""
    number = 0
    for inputs, labels in batches:
        hook(model(inputs), labels).backward()
        number += 1
    return number


# -- its length --------------------------------------------------------------------------------------------------------


def test_it_is_as_long_as_the_loader(hook):
    assert len(hook.watch(loader())) == len(loader()) == BATCHES


def test_it_has_no_length_where_the_loader_has_none(hook):
    with pytest.raises(TypeError, match=r"object of type 'generator' has no len\(\)"):
        len(hook.watch(batch for batch in loader()))
    with pytest.raises(TypeError, match="'Stream' has no len"):
        len(hook.watch(DataLoader(Stream())))


def test_its_length_is_that_of_the_present_epoch_as_the_loaders_is(hook):
    sampler = AdaptiveSampler(hook.store, Prune(0.5, "loss"), warmup_epochs=1)
    watched, model, lengths = hook.watch(loader(sampler=sampler)), nn.Linear(4, CLASSES), []
    for _ in range(2):
        for step, (inputs, labels) in enumerate(watched):
            hook(model(inputs), labels).backward()
            last = step == len(watched) - 1
        assert last
        lengths.append(len(watched))
    assert lengths == [5, 3]


def test_a_progress_bar_of_tqdm_knows_its_total(hook):
    tqdm = pytest.importorskip("tqdm").tqdm
    bar = tqdm(hook.watch(loader()), disable=True)
    assert (bar.total, train(hook, bar, nn.Linear(4, CLASSES))) == (BATCHES, BATCHES)


def test_a_progress_bar_of_rich_knows_its_total(hook):
    progress = pytest.importorskip("rich.progress")
    with progress.Progress(disable=True) as bars:
        assert train(hook, bars.track(hook.watch(loader())), nn.Linear(4, CLASSES)) == BATCHES
        assert bars.tasks[0].total == BATCHES


def test_loops_that_ask_for_the_length_and_iterate_record_every_row(hook):
    assert train(hook, log_every(hook.watch(loader()), 2), nn.Linear(4, CLASSES)) == BATCHES
    assert hook.store.count("loss").tolist() == [1] * N


# -- again and again ---------------------------------------------------------------------------------------------------


def test_each_iteration_is_an_epoch(hook):
    sampler = AdaptiveSampler(hook.store, Prune(0.5, "loss"), seed=1)
    watched, model, seen = hook.watch(loader(sampler=sampler)), nn.Linear(4, CLASSES), []
    for _ in range(3):
        train(hook, watched, model)
        seen.append((sampler.epoch, hook.epoch, hook.delivered, sampler.state_dict(delivered=hook.delivered)["epoch"]))
    assert seen == [(0, 0, 24, 1), (1, 1, 12, 2), (2, 2, 12, 3)]


def test_each_iteration_moves_the_clock_where_no_sampler_of_ours_does(hook):
    watched, model = hook.watch(loader()), nn.Linear(4, CLASSES)
    epochs = [(train(hook, watched, model), hook.epoch)[1] for _ in range(3)]
    assert epochs == [0, 1, 2]


def test_a_pass_that_was_left_ends_where_the_next_one_begins(hook):
    watched, model = hook.watch(loader()), nn.Linear(4, CLASSES)
    for inputs, labels in watched:
        hook(model(inputs), labels).backward()
        break
    assert train(hook, watched, model) == BATCHES
    assert hook.store.count("loss").tolist() == [2] * BATCH + [1] * (N - BATCH)


def test_a_loop_goes_on_after_the_batches_that_next_drew(hook):
    watched = hook.watch(loader())
    first = next(watched)[0]
    hook.forget()
    rest = [inputs for inputs, _ in watched]
    assert torch.cat([first, *rest])[:, 0].tolist() == list(range(N))


def test_next_inside_of_a_loop_draws_from_that_loop(hook):
    drawn = []
    watched = hook.watch(loader())
    for inputs, _ in watched:
        drawn += [inputs, next(watched, (torch.empty(0, 4),))[0]]
    assert torch.cat(drawn)[:, 0].tolist() == list(range(N))


# -- its attributes ----------------------------------------------------------------------------------------------------


def test_other_attributes_are_the_loaders(hook):
    inner = loader()
    watched = hook.watch(inner)
    assert (watched.batch_size, watched.dataset, watched.sampler) == (BATCH, inner.dataset, inner.sampler)
    with pytest.raises(AttributeError, match="'DataLoader' object has no attribute 'nothing'"):
        _ = watched.nothing


def test_a_copy_that_is_not_complete_asks_nobody_for_attributes(hook):
    kind = type(hook.watch(loader()))
    with pytest.raises(AttributeError, match="'Watched' object has no attribute 'batch_size'"):
        _ = kind.__new__(kind).batch_size
    assert copy.copy(hook.watch(loader())).batch_size == BATCH


def test_check_finds_the_sampler_behind_it(hook):
    sampler = AdaptiveSampler(hook.store, Prune(0.5, "loss"))
    check(hook.watch(loader(sampler=sampler)), sampler=sampler)


@pytest.mark.parametrize("store", [True, False])
def test_what_l2rw_watches_is_as_long_and_iterated_as_often(store):
    clean = [(torch.zeros(3, 4), torch.arange(3))]
    criterion = L2RWLoss(nn.Linear(4, CLASSES), clean, make_store(L2RW()) if store else None)
    watched = criterion.watch(loader())
    assert (len(watched), len(list(watched)), len(list(watched))) == (BATCHES,) * 3


# -- a collate_fn that takes samples alone -------------------------------------------------------------------------------


def pairs(batch):
    """A collate_fn of (image, label), as many are written."""
    images, labels = zip(*batch, strict=True)
    return torch.stack(images), torch.tensor(labels)


def with_rows(batch):
    """The same one, as the error says to write it."""
    rows, samples = zip(*batch, strict=True)
    return torch.tensor(rows), pairs(samples)


REMEDY = r"Begin it by `rows, samples = zip\(\*batch\)`, .*: `return torch.tensor\(rows\), collated`."


@pytest.mark.parametrize("workers", [0, 1])
def test_a_collate_fn_of_samples_alone_is_told_what_it_gets(hook, workers):
    with pytest.raises(InvalidValue, match=rf"fails \(TypeError\) because it gets \(row, sample\).*{REMEDY}"):
        next(hook.watch(loader(collate_fn=pairs, num_workers=workers)))


def test_a_collate_fn_that_follows_the_error_works(hook):
    assert train(hook, hook.watch(loader(collate_fn=with_rows)), nn.Linear(4, CLASSES)) == BATCHES
    assert hook.store.count("loss").tolist() == [1] * N


def test_a_collate_fn_that_leaves_the_rows_out_is_told_so(hook):
    with pytest.raises(
        InvalidValue, match=rf"carries no rows: the loader's collate_fn .* leaves the rows out. {REMEDY}"
    ):
        next(hook.watch(loader(collate_fn=lambda batch: pairs([sample for _, sample in batch]))))


def test_a_collate_fn_that_leaves_the_key_out_is_told_so(hook):
    dicts = IndexedDataset([{"x": 1.0}] * 4, key="row")
    with pytest.raises(InvalidValue, match=r"leaves out the entry 'row' of its samples. Keep it in the batch."):
        next(hook.watch(DataLoader(dicts, collate_fn=lambda batch: {"x": torch.ones(len(batch))})))


def test_an_error_of_a_collate_fn_that_takes_rows_stays_its_own(hook):
    def failing(batch):
        raise KeyError("of another cause")

    with pytest.raises(KeyError, match="of another cause"):
        next(hook.watch(loader(collate_fn=failing)))


def test_an_error_of_a_later_batch_stays_the_loaders(hook):
    asked = []

    class Broken(type(dataset())):
        def __getitem__(self, index):
            asked.append(index)
            if index == BATCH + 1:
                raise OSError("a file of it is gone")
            return super().__getitem__(index)

    watched = hook.watch(DataLoader(IndexedDataset(Broken(*dataset().tensors)), BATCH, collate_fn=with_rows))
    next(watched)
    with pytest.raises(OSError, match="a file of it is gone"):
        next(watched)
    assert asked == [*range(BATCH + 2)]  # and no sample is loaded again, to try the collate_fn


# -- watch forgotten -----------------------------------------------------------------------------------------------------


def test_a_call_where_no_loader_was_ever_watched_says_that_watch_was_forgotten(hook):
    rows, sample = next(iter(loader()))
    with pytest.raises(
        InvalidValue, match=r"watch was forgotten. Iterate `for inputs, labels in hook.watch\(loader\)`"
    ):
        hook(nn.Linear(4, CLASSES)(sample[0]), sample[1])
    hook(nn.Linear(4, CLASSES)(sample[0]), sample[1], rows=rows)
    assert hook.store.observed("loss") == BATCH


def test_a_call_after_a_watched_loop_does_not_say_so(hook):
    train(hook, hook.watch(loader()), nn.Linear(4, CLASSES))
    with pytest.raises(InvalidValue, match="no rows for this loss call: either no batch"):
        hook(torch.zeros(2, CLASSES, requires_grad=True), torch.tensor([0, 1]))
