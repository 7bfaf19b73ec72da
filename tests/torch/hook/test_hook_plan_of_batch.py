"""Plan weights are those of the plan that the batch was drawn by, whenever a part of it is computed again."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import RowError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Draw, InfoBatch, KeepAll, Prune
from adaptive_sampler.torch import IndexedDataset, LossHook
from tests.torch.samples import CLASSES, N, dataset, make_store

POLICIES = {
    "other weights": lambda: Draw("loss", 5000, floor=0.1, unbiased=True),
    "other rows": lambda: InfoBatch(0.9, by="loss", epochs=10),
}


def watched(policy, **settings):
    store = make_store(Loss())
    store.fold("loss", range(N), np.arange(1.0, N + 1))
    sampler = AdaptiveSampler(store, policy(), seed=1, **settings)
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=sampler)
    return hook, sampler, DataLoader(IndexedDataset(dataset()), batch_size=8, sampler=sampler, drop_last=True)


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("name", POLICIES)
def test_a_part_computed_again_in_the_next_epoch_has_the_weights_of_its_own(name, in_pieces):
    hook, sampler, loader = watched(POLICIES[name])
    model, late = nn.Linear(4, CLASSES), None

    def compute(inputs, labels, rows):
        at = torch.arange(8).flip(0) if in_pieces else slice(None)
        return hook(model(inputs[at]), labels[at], rows=rows[at] if in_pieces else None)

    for inputs, labels in hook.watch(loader):
        rows = inputs[:, 0].long()
        weights = torch.from_numpy(sampler.loss_weights(rows))
        late = checkpoint(compute, inputs, labels, rows, use_reentrant=False), inputs, labels, weights
    hook.flush()
    hook.store.fold("loss", range(N), np.arange(N, 0.0, -1))
    watching = hook.watch(loader)
    next(watching)  # the next epoch's plan
    assert not (sampler.plan.num_rows == N and np.array_equal(sampler.loss_weights(rows), weights))
    loss, inputs, labels, weights = late
    loss.backward()
    ours, model.weight.grad = model.weight.grad, None
    (weights * F.cross_entropy(model(inputs), labels, reduction="none")).mean().backward()
    torch.testing.assert_close(ours, model.weight.grad)


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_part_of_an_epoch_that_weighs_nothing_is_not_weighed_in_the_next_one_that_does(in_pieces):
    hook, sampler, loader = watched(POLICIES["other weights"], warmup_epochs=1)
    model = nn.Linear(4, CLASSES)

    def compute(inputs, labels, rows):
        at = torch.arange(8).flip(0) if in_pieces else slice(None)
        return hook(model(inputs[at]), labels[at], rows=rows[at] if in_pieces else None)

    for inputs, labels in hook.watch(loader):
        late = checkpoint(compute, inputs, labels, inputs[:, 0].long(), use_reentrant=False), inputs, labels
    watching = hook.watch(loader)
    next(watching)
    assert sampler.plan.weighted
    loss, inputs, labels = late
    loss.backward()
    ours, model.weight.grad = model.weight.grad, None
    F.cross_entropy(model(inputs), labels).backward()
    torch.testing.assert_close(ours, model.weight.grad)


@pytest.mark.parametrize("policy", [KeepAll, lambda: Prune(0.5, "loss")])
def test_nothing_is_asked_of_a_plan_whose_rows_were_seen_to_come_as_they_were_drawn_if_it_weighs_nothing(
    policy, monkeypatch
):
    hook, sampler, loader = watched(policy)
    monkeypatch.setattr(sampler, "weights_or_none", None)
    for inputs, labels in hook.watch(loader):
        assert hook(inputs[:, :CLASSES].requires_grad_(), labels).requires_grad
    assert hook.effective_samples == sampler.plan.num_samples // 8 * 8


def test_a_batch_of_an_epoch_that_its_sampler_has_left_is_held_against_the_plan_of_the_next():
    hook, sampler, loader = watched(lambda: Prune(0.5, "loss"))
    watching = hook.watch(loader)
    inputs, labels = next(watching)
    hook.store.fold("loss", range(N), np.arange(N, -N, -2.0))
    sampler.set_epoch(1)
    assert not set(inputs[:, 0].tolist()) & set(sampler.plan.rows.tolist())
    with pytest.raises(RowError, match=f"row {int(inputs[0, 0])} is not in plan {sampler.plan.id} of epoch 1"):
        hook(inputs[:, :CLASSES].requires_grad_(), labels)


def test_rows_that_a_collate_fn_changed_are_held_against_the_plan():
    hook, sampler, _ = watched(lambda: Prune(0.5, "loss"))

    def others(batch):
        return torch.arange(len(batch)), torch.stack([inputs for _, (inputs, _) in batch])

    loader = DataLoader(IndexedDataset(dataset()), 8, sampler=sampler, drop_last=True, collate_fn=others)
    watching = hook.watch(loader)
    inputs = next(watching)
    with pytest.raises(RowError, match="row 0 is not in plan"):
        hook(inputs[:, :CLASSES].requires_grad_(), torch.zeros(8, dtype=torch.int64))
