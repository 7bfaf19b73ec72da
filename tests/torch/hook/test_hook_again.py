"""Each position of a watched batch counts once: by the first call with gradients that brings it, and by no later one."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Draw
from adaptive_sampler.torch import IndexedDataset, LossHook
from tests.torch.hook.test_hook_watch import booked_right
from tests.torch.samples import N, dataset, make_store

REENTRANT = pytest.mark.parametrize("reentrant", [False, True])


@pytest.fixture
def hook():
    return LossHook(nn.MSELoss(), make_store(Loss()))


def loader(batch_size=4, **arguments):
    return DataLoader(IndexedDataset(dataset()), batch_size=batch_size, **arguments)


def call(hook, sample, rows=None, at=slice(None), scale=1.0):
    """The squared error against zero is the row, times `scale`."""
    inputs = sample[0][at]
    predicted = (scale * inputs[:, 0]).sqrt().requires_grad_()
    return hook(predicted, torch.zeros(len(inputs)), rows=rows)


def rows_of(sample):
    return sample[0][:, 0].long()


def counts(hook):
    return hook.store.count("loss").tolist()


@pytest.mark.parametrize("passed", [(False, False), (True, True), (False, True), (True, False)])
def test_the_first_call_of_a_batch_is_recorded_and_a_second_is_not_with_or_without_rows(hook, passed):
    for sample in hook.watch(loader()):
        for scale, rows in zip((1.0, 3.0), passed, strict=True):
            call(hook, sample, rows_of(sample) if rows else None, scale=scale)
    assert counts(hook) == [1] * N
    assert booked_right(hook.store)


def test_a_closure_that_is_called_many_times_counts_once(hook):
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
    calls = []
    for inputs, _ in hook.watch(loader(8)):

        def closure(inputs=inputs):
            optimizer.zero_grad()
            loss = hook(model(inputs)[:, 0], torch.ones(len(inputs)))
            loss.backward()
            calls.append(loss)
            return loss

        optimizer.step(closure)
    assert len(calls) > 3
    assert counts(hook) == [1] * N


def test_micro_batches_under_watch_count_once_each_position(hook):
    for sample in hook.watch(loader(6, shuffle=True)):
        for _ in range(2):
            for part in (slice(0, 4), slice(4, 6)):
                call(hook, sample, rows_of(sample)[part], part)
    assert counts(hook) == [1] * N
    assert booked_right(hook.store)


def test_parts_that_overlap_count_where_they_are_new(hook):
    for sample in hook.watch(loader(4)):
        call(hook, sample, rows_of(sample)[[2, 0]], [2, 0])
        call(hook, sample, rows_of(sample)[[0, 1]], [0, 1], scale=5)
        call(hook, sample)
        break
    assert counts(hook)[:4] == [1, 1, 1, 1]
    loss = hook.store["loss"][:4]
    assert loss[[0, 2, 3]] == pytest.approx([0, 2, 3])
    assert loss[1] == pytest.approx(5)


def test_a_row_that_a_batch_has_twice_counts_twice(hook):
    for _ in hook.watch([(torch.tensor([5, 7, 5]), "sample")]):
        for _ in range(4):
            hook(torch.ones(1, requires_grad=True), torch.zeros(1), rows=[5])
        hook(torch.ones(3, requires_grad=True), torch.zeros(3), rows=[5, 7, 5])
    assert (counts(hook)[5], counts(hook)[7]) == (2, 1)


def test_a_row_that_a_call_has_oftener_than_the_batch_counts_as_often_as_the_batch_has_it(hook):
    for _ in hook.watch([(torch.tensor([5, 7]), "sample")]):
        hook(torch.ones(3, requires_grad=True), torch.zeros(3), rows=[7, 7, 7])
    assert (counts(hook)[5], counts(hook)[7]) == (0, 1)


def test_rows_that_are_not_of_the_watched_batch_raise(hook):
    sample = next(watched := hook.watch(loader()))
    with pytest.raises(
        InvalidValue, match=r"row 9 is not of the batch .* \(1 of 2 rows are not\). Pass rows of that batch"
    ):
        call(hook, sample, [0, 9], slice(0, 2))
    assert sum(counts(hook)) == 0
    watched.close()


def test_rows_that_were_claimed_may_be_passed_piece_by_piece(hook):
    for sample in hook.watch(loader(6)):
        rows = hook.claim(6)
        for part in (slice(0, 3), slice(3, 6)):
            call(hook, sample, rows[part], part)
    assert counts(hook) == [1] * N


def test_after_a_claim_a_call_without_rows_raises(hook):
    sample = next(watched := hook.watch(loader()))
    hook.claim(4)
    with pytest.raises(InvalidValue, match=r"no rows for this loss call: .* given out by hook.claim"):
        call(hook, sample)
    watched.close()


def test_a_call_after_the_pass_has_ended_raises(hook):
    for sample in hook.watch(loader()):
        call(hook, sample)
    with pytest.raises(InvalidValue, match="no rows for this loss call"):
        call(hook, sample)


def test_after_the_pass_calls_with_rows_count_each(hook):
    for sample in hook.watch(loader(N)):
        call(hook, sample)
    call(hook, sample, rows_of(sample))
    assert counts(hook) == [2] * N


def test_without_watch_each_call_with_rows_counts_unless_it_is_said_to_be_again(hook):
    for rows, sample in loader():
        call(hook, sample, rows)
        call(hook, sample, rows)
        with hook.again():
            call(hook, sample, rows)
    assert counts(hook) == [2] * N


def test_again_ends_with_its_block_also_where_that_raises(hook):
    rows, sample = next(iter(loader()))
    with pytest.raises(KeyError), hook.again(), hook.again():
        raise KeyError
    call(hook, sample, rows)
    assert sum(counts(hook)) == 4


def test_again_before_the_first_call_takes_nothing_away(hook):
    for sample in hook.watch(loader()):
        with hook.again():
            call(hook, sample)
        call(hook, sample)
    assert counts(hook) == [1] * N


# -- checkpointing -----------------------------------------------------------------------------------------------------


class Head(nn.Module):
    """A hooked head: its loss for features."""

    def __init__(self, hook):
        super().__init__()
        self.hook, self.calls = [hook], 0

    def forward(self, inputs, rows=None):
        self.calls += 1
        return call(self.hook[0], (inputs,), rows)


def checkpointed(hook, head, inputs, reentrant, *rows):
    inputs = inputs.clone().requires_grad_()
    return checkpoint(head, inputs + 0.0, *rows, use_reentrant=reentrant) * 2


@REENTRANT
@pytest.mark.parametrize("with_rows", [False, True])
def test_a_part_that_is_computed_again_counts_once(hook, reentrant, with_rows):
    head = Head(hook)
    for inputs, _ in hook.watch(loader()):
        checkpointed(hook, head, inputs, reentrant, *([inputs[:, 0].long()] if with_rows else [])).backward()
    assert head.calls == 2 * N // 4
    assert counts(hook) == [1] * N
    assert booked_right(hook.store)


@REENTRANT
@pytest.mark.parametrize("late", [1, 2])
def test_a_backward_that_runs_when_the_next_batch_is_here_does_not_take_its_rows(hook, reentrant, late):
    head, losses = Head(hook), []
    for inputs, _ in hook.watch(loader(4, shuffle=True)):
        if len(losses) == late:
            torch.stack(losses).sum().backward()
            losses = []
            assert booked_right(hook.store)
        losses.append(checkpointed(hook, head, inputs, reentrant))
    torch.stack(losses).sum().backward()
    assert counts(hook) == [1] * N
    assert booked_right(hook.store)


@REENTRANT
def test_a_prefetcher_around_watch_raises_in_a_checkpointed_part_too(hook, reentrant):
    watched = hook.watch(loader())
    (inputs, _), _ = next(watched), next(watched)
    for _ in range(2):
        with pytest.raises(InvalidValue, match=r"rows are in doubt|no rows for this loss call"):
            checkpointed(hook, Head(hook), inputs, reentrant).backward()
        inputs, _ = next(watched)
    assert hook.store.observed("loss") == 0
    watched.close()


@REENTRANT
def test_a_batch_that_is_left_out_after_its_call_is_not_taken_for_the_one_before(hook, reentrant):
    losses = []
    for inputs, _ in hook.watch(loader()):
        losses.append(checkpointed(hook, Head(hook), inputs, reentrant))
        if len(losses) == 2:
            hook.forget()
            losses.pop().backward()
            break
    losses.pop().backward()
    assert booked_right(hook.store)
    assert counts(hook) == [1] * 4 + [int(not reentrant)] * 4 + [0] * (N - 8)


@REENTRANT
def test_what_is_computed_again_is_weighed_by_the_rows_of_its_own_batch(reentrant):
    store = make_store(Loss())
    store.fold("loss", range(N), np.arange(1.0, N + 1))
    sampler = AdaptiveSampler(store, Draw("loss", 5000, floor=0.1, unbiased=True))
    next(iter(sampler))
    hook = LossHook(nn.MSELoss(), store, sampler=sampler)
    weights, kept = sampler.loss_weights(range(N)), []

    def head(factor, inputs):
        return hook(factor * inputs[:, 0], torch.zeros(len(inputs)))

    for rows in torch.arange(N).split(4):
        for sample in hook.watch([(rows, dataset()[rows])]):
            factor = torch.ones((), requires_grad=True)
            kept.append((factor, checkpoint(head, factor * 1.0, sample[0], use_reentrant=reentrant) * 1.0, rows))
    for factor, loss, rows in kept:
        loss.backward()
        expected = (torch.from_numpy(weights)[rows] * 2 * rows**2).mean()
        torch.testing.assert_close(factor.grad, expected)


# -- plan weights ------------------------------------------------------------------------------------------------------


def test_a_later_call_is_weighed_as_the_first_and_so_is_one_that_is_again():
    store = make_store(Loss())
    store.fold("loss", range(N), np.arange(1.0, N + 1))
    sampler = AdaptiveSampler(store, Draw("loss", 5000, floor=0.1, unbiased=True))
    hook = LossHook(nn.MSELoss(), store, sampler=sampler)
    rows = torch.arange(4)
    next(iter(sampler))
    expected = (torch.from_numpy(sampler.loss_weights(rows)) * rows).mean()
    for sample in hook.watch([(rows, dataset()[rows])]):
        values = [call(hook, sample), call(hook, sample)]
        with hook.again():
            values += [call(hook, sample), call(hook, sample, rows)]
    for value in values:
        torch.testing.assert_close(value.detach(), expected)
    assert counts(hook)[:4] == [2] * 4  # the fold above, and the first call
