"""Plan weights are those of the plan that the batch was drawn by, whenever a part of it is computed again."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Draw, InfoBatch
from adaptive_sampler.torch import IndexedDataset, LossHook
from tests.torch.samples import CLASSES, N, dataset, make_store

POLICIES = {
    "other weights": lambda: Draw("loss", 5000, floor=0.1, unbiased=True),
    "other rows": lambda: InfoBatch(0.9, by="loss", epochs=10),
}


def watched(policy):
    store = make_store(Loss())
    store.fold("loss", range(N), np.arange(1.0, N + 1))
    sampler = AdaptiveSampler(store, policy(), seed=1)
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
