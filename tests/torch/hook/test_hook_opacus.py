"""Opacus clips each sample's gradient with the hook as criterion as it does with the bare one, and rows are recorded."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.torch import IndexedDataset, LossHook
from tests.torch.samples import CLASSES, N, dataset, make_store

opacus = pytest.importorskip("opacus")
pytestmark = pytest.mark.filterwarnings("ignore")  # opacus's own, of its random numbers and torch's backward hooks

LIMIT = 0.1


def private(criterion, mode):
    """-> a model, its optimiser, the criterion and loader as Opacus gives them back; no noise."""
    torch.manual_seed(0)
    model = nn.Linear(4, CLASSES)
    made = opacus.PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), 1.0),
        data_loader=DataLoader(IndexedDataset(dataset()), batch_size=8),
        criterion=criterion,
        noise_multiplier=0.0,
        max_grad_norm=LIMIT,
        poisson_sampling=False,
        grad_sample_mode=mode,
    )
    return made if mode == "ghost" else (made[0], made[1], criterion, made[2])


def trained(criterion, mode, samples):
    """The parameters before and after each step, and what the losses were."""
    model, optimizer, loss_of, loader = private(criterion, mode)
    steps, losses = [nn.utils.parameters_to_vector(model.parameters()).detach().clone()], []
    for inputs, labels in samples(loader):
        optimizer.zero_grad()
        loss = loss_of(model(inputs), labels)
        loss.backward()
        optimizer.step()
        steps.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone())
        losses.append(loss.item())
    return torch.stack(steps), losses


@pytest.mark.parametrize("mode", ["ghost", "hooks"])
def test_its_steps_are_those_with_the_bare_criterion(mode):
    hook = LossHook(nn.CrossEntropyLoss(), make_store(Loss(), EL2N()))
    bare, values = trained(nn.CrossEntropyLoss(), mode, lambda loader: (sample for _, sample in loader))

    ours, own = trained(hook, mode, hook.watch)
    assert (torch.equal(ours, bare), own == values) == (True, True)
    assert (bare[1:] - bare[:-1]).norm(dim=1).max() <= LIMIT + 1e-6
    assert hook.reduction == "mean"
    assert [hook.store.count(name).tolist() for name in ("loss", "el2n")] == [[1] * N] * 2
