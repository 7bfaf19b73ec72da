"""A training whose miner remembers losses goes on exactly: its state is saved beside the sampler's."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import IndexedDataset, LossHook, SelectiveBackprop
from tests.torch.samples import CLASSES, N, dataset

BATCHES = 8  # of two epochs


def trained(folder, stop=None, saved=None):
    """Weights, scores and the miner's state after two epochs; what is saved after `stop` batches; or as much after going on."""
    torch.manual_seed(0)
    model, mine, batches = nn.Linear(4, CLASSES), SelectiveBackprop(2, history=11, seed=5), 0
    if saved is None:
        store = ScoreStore.create(folder, N, [Loss(), EL2N()], overwrite=True)
    else:
        store = ScoreStore.open(folder, version=saved["commit"])
    sampler = AdaptiveSampler(store, KeepAll(), seed=1)
    hook = LossHook(nn.CrossEntropyLoss(), store, mine=mine)
    if saved is not None:
        batches = saved["batches"]
        model.load_state_dict(saved["model"])
        mine.load_state_dict(saved["mine"])
        sampler.load_state_dict(saved["walk"])
    with store:
        while batches < BATCHES:
            for inputs, labels in hook.watch(DataLoader(IndexedDataset(dataset()), batch_size=7, sampler=sampler)):
                hook(model(inputs / N), labels).backward()
                with torch.no_grad():
                    model.weight -= model.weight.grad
                model.zero_grad()
                batches += 1
                if batches == stop:
                    state = {"model": copy.deepcopy(model.state_dict()), "mine": mine.state_dict(), "batches": batches}
                    return state | {"commit": store.commit(), "walk": sampler.state_dict(delivered=hook.delivered)}
        return model.weight.detach(), {name: store[name].tobytes() for name in store.names}, mine.state_dict()


@pytest.mark.parametrize("stop", range(1, BATCHES))
def test_a_training_that_is_resumed_with_the_miners_state_is_the_one_that_never_stopped(tmp_path, stop):
    weights, *others = trained(tmp_path / "whole")
    resumed, *again = trained(tmp_path / "stopped", saved=trained(tmp_path / "stopped", stop))
    assert torch.equal(resumed, weights)
    assert again == others


def test_without_the_miners_state_it_would_be_another_training(tmp_path):
    weights, *_ = trained(tmp_path / "whole")
    saved = trained(tmp_path / "stopped", 3) | {"mine": SelectiveBackprop(2, history=11, seed=5).state_dict()}
    assert not torch.equal(trained(tmp_path / "stopped", saved=saved)[0], weights)


def test_a_rehearsal_leaves_the_miner_as_it_was():
    store = ScoreStore.create(None, N, [Loss()])
    hook = LossHook(nn.CrossEntropyLoss(), store, mine=SelectiveBackprop())
    store.session.rehearsal = True
    hook(torch.randn(5, CLASSES, requires_grad=True), torch.arange(5) % CLASSES, rows=torch.arange(5)).backward()
    assert hook.mine.state_dict() == SelectiveBackprop().state_dict()


def test_ranks_draw_apart_from_one_seed(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    chosen = []
    for rank in range(2):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        chosen.append(SelectiveBackprop().choose(torch.arange(64.0)).tolist())
    assert chosen[0] != chosen[1]


def test_a_deep_copy_of_a_hook_draws_as_it_would_and_leaves_its_history_alone():
    hook = LossHook(nn.CrossEntropyLoss(), ScoreStore.create(None, N, [Loss()]), mine=SelectiveBackprop(2))
    twin, before = copy.deepcopy(hook), hook.mine.state_dict()
    rows, logits = torch.arange(N), torch.randn(N, CLASSES)
    chosen = twin.select(logits, rows % CLASSES, rows=rows)
    assert hook.mine.state_dict() == before
    assert torch.equal(hook.select(logits, rows % CLASSES, rows=rows), chosen)
    assert copy.copy(hook).mine is hook.mine
