"""`Weigh` reaches the loss: through the hook, and through the sampler of a rank."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Confidence, Loss
from adaptive_sampler.selection import Focal, Prune, Weigh
from adaptive_sampler.torch import AdaptiveSampler, DistributedAdaptiveSampler, IndexedDataset, LossHook

N = 24
INPUTS, LABELS = torch.randn(N, 5, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 3


def store_of(confidence):
    store = ScoreStore.create(None, N, [Confidence(), Loss()])
    store.fold("confidence", np.arange(N), confidence)
    store.fold("loss", np.arange(N), np.arange(N))
    return store


@pytest.mark.parametrize("policy", [Weigh("confidence", Focal(2.0)), Prune(0.5, "loss") & Weigh("confidence", "focal")])
def test_a_batch_counts_by_its_focal_weights_over_the_number_of_its_samples(policy):
    confidence = np.linspace(0, 1, N, dtype=np.float32)
    store = store_of(confidence)
    sampler = AdaptiveSampler(store, policy)
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=sampler)
    loader = DataLoader(IndexedDataset(TensorDataset(INPUTS, LABELS), store), batch_size=6, sampler=sampler)
    seen = 0
    for inputs, labels in hook.watch(loader):
        rows = [int((one == INPUTS).all(1).nonzero()) for one in inputs]
        logits = inputs[:, :3].clone().requires_grad_()
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        expected = ((1 - torch.from_numpy(confidence[rows])) ** 2 * losses).sum() / 6
        torch.testing.assert_close(hook(logits, labels), expected)
        seen += len(rows)
    assert seen == sampler.plan.num_samples
    assert store.count("loss")[rows].tolist() == [2] * 6  # what is recorded is the loss before weighing
    torch.testing.assert_close(torch.from_numpy(store["loss"][rows].copy()), losses.detach())


def test_with_all_weights_one_the_criterion_itself_runs():
    store = store_of(np.zeros(N))
    sampler = AdaptiveSampler(store, Weigh("confidence", "focal"))
    next(iter(sampler))
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=sampler)
    logits = INPUTS[:, :3].clone().requires_grad_()
    assert torch.equal(hook(logits, LABELS, rows=torch.arange(N)), nn.functional.cross_entropy(logits, LABELS))


def test_each_rank_has_the_weights_of_its_rows():
    confidence = np.linspace(0, 1, N, dtype=np.float32)
    seen = {}
    for rank in range(2):
        sampler = AdaptiveSampler(store_of(confidence), Weigh("confidence", "focal"))
        ranked = DistributedAdaptiveSampler(sampler, num_replicas=2, rank=rank)
        rows = np.array(list(ranked))
        seen |= dict(zip(rows.tolist(), ranked.loss_weights(rows).tolist(), strict=True))
    assert [seen[row] for row in range(N)] == pytest.approx(((1 - confidence) ** 2).tolist())
