"""A hook that mines trains on some samples of a batch, and records all of them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Weigh
from adaptive_sampler.torch import OHEM, IndexedDataset, LossHook, PartsLoss, SelectiveBackprop
from tests.torch.samples import CLASSES, dataset, make_store

B = 8
ROWS = torch.arange(B)
LABELS = ROWS % CLASSES


def logits(seed=0, dtype=torch.float32):
    return torch.randn(B, CLASSES, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def hardest(number, x, labels=LABELS):
    return F.cross_entropy(x.detach(), labels, reduction="none").topk(number).indices.sort().values


def hooked(criterion=None, mine=None, *scores, **named):
    return LossHook(criterion or nn.CrossEntropyLoss(), make_store(*scores), mine=mine or OHEM(0.25), **named)


def touched(x):
    return x.grad.abs().flatten(1).sum(1).nonzero()[:, 0]


# -- the value, and the gradient ------------------------------------------------------------------------------------------


class Own(nn.Module):
    """A criterion of one's own, whose mean divides by something else."""

    reduction = "mean"

    def forward(self, input, target):
        losses = 2 * F.cross_entropy(input, target, reduction="none")
        return losses if self.reduction == "none" else losses.sum() / (1 + target).sum()


CRITERIA = [
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(reduction="sum"),
    nn.CrossEntropyLoss(reduction="none"),
    nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.5]), label_smoothing=0.1),
    Own(),
]


@pytest.mark.parametrize("mine", [OHEM(3), OHEM(1.0), OHEM(1), SelectiveBackprop(2)], ids=repr)
@pytest.mark.parametrize("criterion", CRITERIA, ids=repr)
def test_the_value_is_the_criterions_on_the_chosen_samples_and_no_other_has_a_gradient(criterion, mine):
    hook, x = hooked(criterion, mine), logits()
    losses = copy.copy(criterion)
    losses.reduction = "none"
    chosen = copy.deepcopy(mine).choose(losses(x.detach(), LABELS))
    value = hook(x, LABELS, rows=ROWS)
    assert torch.equal(value, criterion(x[chosen], LABELS[chosen]))
    value.sum().backward()
    assert torch.equal(touched(x), chosen)


def test_all_samples_are_recorded_whatever_is_chosen():
    hook, plain, x = hooked(), LossHook(nn.CrossEntropyLoss(), make_store()), logits()
    for one in (hook, plain):
        one(x, LABELS, rows=ROWS)
    for name in ("loss", "el2n"):
        np.testing.assert_allclose(hook.store[name], plain.store[name], rtol=1e-6)
    assert hook.store.observed("loss") == B


def test_it_counts_the_chosen_as_the_samples_that_trained():
    hook = hooked()
    hook(logits(), LABELS, rows=ROWS)
    assert hook.effective_samples == 2


def test_regression_and_losses_in_parts_are_mined():
    x, y = torch.arange(float(B)).requires_grad_(), torch.zeros(B)
    hook = hooked(nn.MSELoss(), OHEM(2), Loss())
    assert hook(x, y, rows=ROWS).item() == (36 + 49) / 2
    parts = {"one": x**2, "other": torch.ones(B, 3)}
    assert hooked(PartsLoss(), OHEM(2), Loss())(parts, rows=ROWS).item() == (37 + 50) / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_mined_in_single(dtype):
    hook, x = hooked(mine=OHEM(3)), logits(dtype=dtype)
    hook(x, LABELS, rows=ROWS).backward()
    assert x.grad.dtype is dtype
    assert len(touched(x)) == 3


def test_a_batch_of_one_is_that_sample():
    hook, x = hooked(), logits()
    assert torch.equal(hook(x[:1], LABELS[:1], rows=[3]), F.cross_entropy(x[:1], LABELS[:1]))


def test_samples_that_the_criterion_ignores_come_last():
    x, labels = logits(), LABELS.clone()
    labels[hardest(3, x)] = -100
    hook = hooked(mine=OHEM(2))
    hook(x, labels, rows=ROWS).backward()
    kept = torch.tensor([i for i in range(B) if labels[i] >= 0])
    assert torch.equal(touched(x), kept[hardest(2, x[kept], labels[kept])])
    selective = hooked(mine=SelectiveBackprop(0))
    assert torch.equal(selective.select(x, labels, rows=ROWS), kept)


@pytest.mark.filterwarnings("ignore:1 of 8 observations have a value that is not finite")
@pytest.mark.parametrize("mine", [OHEM(2), SelectiveBackprop()], ids=repr)
def test_a_loss_that_diverged_shows_as_without_mining(mine):
    x = logits().detach()
    x[5] = torch.nan
    hook = hooked(mine=mine)
    assert hook(x.requires_grad_(), LABELS, rows=ROWS).isnan()
    assert hook.skipped == 1


def test_without_gradients_the_whole_batch_counts():
    hook, x = hooked(), logits()
    with torch.no_grad():
        for rows in (None, ROWS):
            assert torch.equal(hook(x, LABELS, rows=rows), F.cross_entropy(x, LABELS))
    assert hook.store.observed("loss") == 0


# -- several calls on a batch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mine", [OHEM(2), SelectiveBackprop(2)], ids=repr)
def test_a_second_call_on_a_batch_is_on_the_same_samples_though_others_are_now_the_hardest(mine):
    hook = hooked(mine=mine)
    loader = DataLoader(IndexedDataset(dataset()), batch_size=B)
    for step, (_, labels) in enumerate(hook.watch(loader)):
        first, second = logits(step), logits(step + 50)
        for x in (first, second):
            hook(x, labels).backward()
        assert torch.equal(touched(first), touched(second))
    with hook.again():
        x = logits(99)
        hook(x, labels, rows=torch.arange(16, 24)).backward()
    assert torch.equal(touched(x), touched(first))
    assert (hook.store.count("loss") == 1).all()


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_is_computed_again_in_backward_is_on_the_same_samples(reentrant):
    hook, model = hooked(mine=SelectiveBackprop(2)), nn.Linear(4, CLASSES)
    plain, copied = hooked(mine=SelectiveBackprop(2)), copy.deepcopy(model)
    waiting = []
    for inputs, labels in hook.watch(DataLoader(IndexedDataset(dataset()), batch_size=B)):
        inputs = inputs.requires_grad_()
        waiting.append(checkpoint(lambda x, y: hook(model(x), y), inputs, labels, use_reentrant=reentrant))
    for inputs, labels in plain.watch(DataLoader(IndexedDataset(dataset()), batch_size=B)):
        plain(copied(inputs), labels).backward()
    for value in waiting:  # backward after all batches are here
        value.backward()
    torch.testing.assert_close(model.weight.grad, copied.weight.grad)


def test_micro_batches_are_mined_each_by_itself():
    hook, x = hooked(mine=OHEM(1)), logits()
    for piece in (slice(0, 4), slice(4, 8)):
        (hook(x[piece], LABELS[piece], rows=ROWS[piece]) / 2).backward()
    expected = torch.cat([hardest(1, x[:4], LABELS[:4]), 4 + hardest(1, x[4:], LABELS[4:])])
    assert torch.equal(touched(x), expected)


# -- select: the forward pass of all without gradients, of the chosen with them -------------------------------------------


def test_select_records_the_batch_and_gives_the_samples_that_a_call_would_train_on():
    model, hook, whole = nn.Linear(4, CLASSES), hooked(mine=SelectiveBackprop()), hooked(mine=SelectiveBackprop())
    for inputs, labels in hook.watch(DataLoader(IndexedDataset(dataset()), batch_size=B)):
        with torch.no_grad():
            chosen = hook.select(model(inputs), labels)
        hook.criterion(model(inputs[chosen]), labels[chosen]).backward()
    picked, model.weight.grad = model.weight.grad, None
    for inputs, labels in whole.watch(DataLoader(IndexedDataset(dataset()), batch_size=B)):
        whole(model(inputs), labels).backward()
    torch.testing.assert_close(model.weight.grad, picked)
    np.testing.assert_array_equal(hook.store["loss"], whole.store["loss"])
    assert (hook.store.count("loss") == 1).all()
    assert hook.effective_samples == whole.effective_samples < 24


def test_a_second_select_and_a_call_after_it_are_of_the_same_choice():
    hook, x = hooked(mine=SelectiveBackprop(2)), logits()
    for _, labels in hook.watch(DataLoader(IndexedDataset(dataset(B)), batch_size=B)):
        chosen = hook.select(x, labels)
        assert torch.equal(hook.select(x, labels), chosen)
        hook(x, labels).backward()
    assert torch.equal(touched(x), chosen)


def test_what_was_selected_without_gradients_of_any_kind_trains():
    hook, x, y = hooked(), logits(), logits()
    for _, labels in hook.watch(DataLoader(IndexedDataset(dataset(B)), batch_size=B)):
        with torch.inference_mode():
            chosen = hook.select(x, labels)
        F.cross_entropy(x[chosen], labels[chosen]).backward()
        hook(y, labels).backward()
    assert torch.equal(touched(x), chosen)
    assert torch.equal(touched(y), chosen)


def test_what_was_selected_is_not_mined_again_where_a_batch_before_it_had_just_these_rows():
    hook = hooked(mine=OHEM(0.5))
    easy, hard = torch.tensor([0.0, 9, 0]), torch.tensor([9.0, 0, 0])
    values = {0: hard, 1: hard / 2, 2: easy, 3: easy}
    for inputs, _ in hook.watch(DataLoader(IndexedDataset(dataset()), batch_sampler=[[0, 1], [0, 1, 2, 3]])):
        rows = hook.claim(len(inputs))
        x, labels = torch.stack([values[row] for row in rows.tolist()]), torch.ones(len(rows), dtype=torch.long)
        chosen = hook.select(x, labels, rows=rows)
        part = x[chosen].requires_grad_()
        hook(part, labels[chosen], rows=rows[chosen]).backward()
        assert len(touched(part)) == len(chosen) == len(rows) // 2


# -- with a plan's weights ------------------------------------------------------------------------------------------------


def weighing():
    store = make_store(n=B)
    store.fold("el2n", np.arange(B), np.linspace(0.1, 0.8, B))
    sampler = AdaptiveSampler(store, Weigh("el2n", "linear"))
    return store, sampler


def test_a_plan_weighs_the_chosen_ones():
    store, sampler = weighing()
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=sampler, mine=OHEM(3))
    for inputs, labels in hook.watch(DataLoader(IndexedDataset(dataset(B)), batch_size=B, sampler=sampler)):
        x, rows = logits(), inputs[:, 0].long()
        chosen = hardest(3, x, labels)
        weights = torch.from_numpy(sampler.loss_weights(rows))[chosen]
        value = hook(x, labels)
        torch.testing.assert_close(value, (weights * F.cross_entropy(x, labels, reduction="none")[chosen]).sum() / 3)


def test_rows_of_the_chosen_give_their_weights_after_select():
    store, sampler = weighing()
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=sampler, mine=OHEM(3))
    for _, labels in hook.watch(DataLoader(IndexedDataset(dataset(B)), batch_size=B, sampler=sampler)):
        x, rows = logits(), hook.claim(B)
        chosen = hook.select(x, labels, rows=rows)
        weights = torch.from_numpy(sampler.loss_weights(rows))[chosen]
        value = hook(x[chosen], labels[chosen], rows=rows[chosen])
        torch.testing.assert_close(value, (weights * F.cross_entropy(x, labels, reduction="none")[chosen]).sum() / 3)
    assert (store.count("loss") == 1).all()
    assert hook.effective_samples == pytest.approx(weights.sum().item() ** 2 / weights.square().sum().item())
