"""`watch` takes the rows off the batches and gives them to the one loss call they belong to, or that call raises."""

import contextlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.torch import IndexedDataset, LossHook
from tests.torch.samples import N, dataset, make_store

IN_DOUBT = "rows are in doubt. Make watch the outermost iterator"
NO_ROWS = "no rows for this loss call"


def per_row(inputs):
    """Predictions whose squared error against zero is the row: what is booked tells on which row it belongs."""
    return inputs[:, 0].sqrt().requires_grad_()


def call(hook, sample, rows=None):
    inputs = sample[0]
    return hook(per_row(inputs), torch.zeros(len(inputs)), rows=rows)


def booked_right(store):
    """Whether every recorded loss lies on the row that it came from."""
    loss = store["loss"]
    seen = np.flatnonzero(~np.isnan(loss))
    return np.allclose(loss[seen], seen, atol=1e-3)


@pytest.fixture
def hook():
    return LossHook(nn.MSELoss(), make_store(Loss()))


def loader(batch_size=4, **arguments):
    return DataLoader(IndexedDataset(dataset()), batch_size=batch_size, **arguments)


def test_a_loop_over_watch_books_every_loss_on_its_row(hook):
    for sample in hook.watch(loader(5, shuffle=True)):
        call(hook, sample)
    assert hook.store.observed("loss") == N
    assert booked_right(hook.store)


def test_workers_that_deliver_out_of_order_change_nothing(hook):
    for sample in hook.watch(loader(5, num_workers=2, in_order=False)):
        call(hook, sample)
    assert hook.store.observed("loss") == N
    assert booked_right(hook.store)


def test_watch_yields_the_samples_alone(hook):
    inputs, labels = next(hook.watch(loader(4)))
    assert (inputs[:, 0].tolist(), labels.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 0])


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_rows_may_be_any_integers(hook, dtype):
    batches = [(torch.tensor([5, 3], dtype=dtype), (torch.tensor([[5.0], [3.0]]), None))]
    for sample in hook.watch(batches):
        call(hook, sample)
    assert np.flatnonzero(hook.store.count("loss")).tolist() == [3, 5]


# -- what is in doubt raises -------------------------------------------------------------------------------------------


def test_a_second_call_on_a_batch_gives_the_loss_and_counts_no_second_time(hook):
    for sample in hook.watch(loader()):
        assert torch.equal(call(hook, sample), call(hook, sample))
    assert hook.store.count("loss").tolist() == [1] * N
    assert booked_right(hook.store)


def test_a_call_before_any_batch_raises(hook):
    with pytest.raises(InvalidValue, match=NO_ROWS):
        call(hook, (torch.ones(4, 1),))


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_a_prefetcher_around_watch_raises_and_books_nothing(hook, ahead):
    watched = hook.watch(loader())
    waiting = list(itertools.islice(watched, ahead + 1))
    with pytest.raises(InvalidValue, match=rf"delivered {ahead + 1} batches since the last loss call.*{IN_DOUBT}"):
        call(hook, waiting[0])
    assert hook.store.observed("loss") == 0


def test_a_prefetcher_that_is_caught_once_stays_in_doubt(hook):
    watched = hook.watch(loader())
    first, second = next(watched), next(watched)
    with pytest.raises(InvalidValue, match=IN_DOUBT):
        call(hook, first)
    third = next(watched)
    with pytest.raises(InvalidValue, match=IN_DOUBT):
        call(hook, second)  # and not booked on the rows of the third
    assert len(third) == 2
    assert hook.store.observed("loss") == 0


def test_watch_outside_a_prefetcher_is_fine(hook):
    ahead = iter(list(loader()))  # everything was fetched before
    for sample in hook.watch(ahead):
        call(hook, sample)
    assert booked_right(hook.store)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_a_call_of_another_length_raises(hook, length):
    inputs, _ = next(watched := hook.watch(loader(4)))
    with pytest.raises(
        InvalidValue, match=rf"the loss call has {length} samples, the watched batch 4 rows.*Pass rows="
    ):
        call(hook, (torch.cat([inputs, inputs])[:length],))
    watched.close()


def test_micro_batches_pass_rows(hook):
    for rows, (inputs, _) in loader(6):
        for part in range(0, 6, 2):
            call(hook, (inputs[part : part + 2],), rows[part : part + 2])
    assert hook.store.observed("loss") == N
    assert booked_right(hook.store)


def test_two_watches_drawn_in_turn_raise(hook):
    pairs = zip(hook.watch(loader()), hook.watch(loader()), strict=True)
    first, _ = next(pairs)
    with pytest.raises(InvalidValue, match=IN_DOUBT):
        call(hook, first)


def test_a_batch_left_out_makes_the_next_call_raise(hook):
    watched = hook.watch(loader())
    next(watched)
    with pytest.raises(InvalidValue, match=r"call hook.forget\(\) for a batch that you leave out"):
        call(hook, next(watched))


def test_a_batch_left_out_and_told_of_is_fine(hook):
    for number, sample in enumerate(hook.watch(loader())):
        if number == 2:
            hook.forget()
            continue
        call(hook, sample)
    assert np.flatnonzero(hook.store.count("loss") == 0).tolist() == [8, 9, 10, 11]
    assert booked_right(hook.store)


def test_after_doubt_forget_makes_a_new_start(hook):
    watched = hook.watch(loader())
    next(watched)
    with pytest.raises(InvalidValue, match=IN_DOUBT):
        call(hook, next(watched))
    hook.forget()
    call(hook, next(watched))
    assert np.flatnonzero(hook.store.count("loss")).tolist() == [8, 9, 10, 11]


# -- what belongs to nobody is forgotten -------------------------------------------------------------------------------


def test_validation_in_the_loop_body_records_nothing_and_takes_no_rows(hook):
    validation = DataLoader(TensorDataset(torch.full((4, 1), 100.0)), batch_size=4)
    for sample in hook.watch(loader()):
        with torch.no_grad():
            for held_out in validation:
                call(hook, held_out)
        call(hook, sample)
    assert hook.store.count("loss").tolist() == [1] * N
    assert booked_right(hook.store)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_call_without_gradients_records_nothing_even_with_rows(hook, mode):
    with mode():
        hook(torch.ones(2), torch.zeros(2), rows=torch.arange(2))
    assert hook.store.observed("loss") == 0


def test_a_loop_that_breaks_leaves_no_rows_behind(hook):
    for _ in hook.watch(loader()):
        break
    with pytest.raises(InvalidValue, match=NO_ROWS):
        call(hook, (torch.ones(4, 1),))


def test_after_a_break_the_next_loop_is_right(hook):
    for _ in hook.watch(loader()):
        break
    for sample in hook.watch(loader(3)):
        call(hook, sample)
    assert hook.store.count("loss").tolist() == [1] * N
    assert booked_right(hook.store)


def test_an_abandoned_iterator_that_still_lives_makes_the_next_loop_raise_once(hook):
    abandoned = hook.watch(loader())
    next(abandoned)  # as a notebook's last traceback would hold it
    interrupted = hook.watch(loader())
    with pytest.raises(InvalidValue, match=IN_DOUBT):
        call(hook, next(interrupted))
    for sample in hook.watch(loader()):
        call(hook, sample)
    assert booked_right(hook.store)
    abandoned.close(), interrupted.close()


ACTIONS = [*["next", "call"] * 5, "first", "rows", "validate", "forget", "new", "close"]


@settings(max_examples=100)
@given(st.lists(st.sampled_from(ACTIONS), min_size=10, max_size=40))
def test_whatever_the_interleaving_a_loss_is_booked_on_its_own_row_or_the_call_raises(actions):
    """A consumer that takes its batches in order, however far ahead it draws, from however many iterators.

    It carries on after every error, evaluates, passes rows by hand, and drops what it holds when it forgets, closes, or begins
    anew.
    """
    hook = LossHook(nn.MSELoss(), make_store(Loss()))
    iterators, waiting = [hook.watch(loader(4))], []
    for action in actions:
        with contextlib.suppress(InvalidValue):
            if action in ("next", "first"):
                sample = next(iterators[0 if action == "first" else -1], None)
                waiting = [] if sample is None else [*waiting, sample]
            elif action == "new":
                waiting = []
                iterators.append(hook.watch(loader(4, shuffle=True)))
            elif action in ("close", "forget"):
                waiting = []
                (iterators[-1].close if action == "close" else hook.forget)()
            elif waiting and action == "validate":
                with torch.no_grad():
                    call(hook, waiting[0])
            elif waiting and action == "rows":
                call(hook, waiting[0], waiting[0][0][:, 0].long())
            elif waiting:
                call(hook, waiting.pop(0))
        assert booked_right(hook.store)


@given(ahead=st.integers(1, 4), errors=st.integers(0, 5))
def test_a_consumer_that_lags_behind_never_books_however_often_it_carries_on(ahead, errors):
    hook = LossHook(nn.MSELoss(), make_store(Loss()))
    watched, waiting = hook.watch(loader(3)), []
    for sample in watched:
        waiting.append(sample)
        if len(waiting) > ahead:
            with pytest.raises(InvalidValue, match=IN_DOUBT):
                call(hook, waiting.pop(0))
    assert hook.store.observed("loss") == 0
