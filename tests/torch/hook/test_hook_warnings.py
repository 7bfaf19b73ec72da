"""What the hook warns of is warned of once, and costs no observation even where warnings are errors."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Draw, Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, LossHook
from tests.torch.samples import CLASSES, N, dataset, make_store

BAD = torch.tensor([1.0, torch.nan, 2.0])
UNWEIGHTED = r"weighs samples, and this hook was given no sampler.*Make the hook with sampler=sampler"


def test_a_warning_that_is_an_error_loses_no_row_and_no_count():
    hook = LossHook(nn.CrossEntropyLoss(), make_store(Loss()))
    with pytest.raises(RuntimeWarning, match="1 of 3 observations have a value that is not finite"):
        hook.record([0, 1, 2], loss=BAD)  # warnings are errors in our tests
    assert hook.store.count("loss")[:3].tolist() == [1, 0, 1]
    assert hook.skipped == 1


def test_a_warning_that_is_an_error_comes_once():
    hook = LossHook(nn.CrossEntropyLoss(), make_store(Loss()))
    with pytest.raises(RuntimeWarning):
        hook.record([0, 1, 2], loss=BAD)
    hook.record([3, 4, 5], loss=BAD)
    assert hook.skipped == 2


# -- plan weights that nobody applies ----------------------------------------------------------------------------------


def scored():
    store = make_store(Loss())
    store.fold("loss", range(N), np.arange(1.0, N + 1))
    return store


def weighing(store):
    return AdaptiveSampler(store, Draw("loss", floor=0.1, unbiased=True))


def epoch(hook, sampler):
    """An epoch's training on a loader with this sampler."""
    for inputs, labels in hook.watch(DataLoader(IndexedDataset(dataset()), sampler=sampler, batch_size=8)):
        hook(torch.zeros(len(inputs), CLASSES, requires_grad=True), labels)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: DistributedAdaptiveSampler(s, num_replicas=1, rank=0)])
def test_a_plan_that_weighs_samples_and_a_hook_without_its_sampler_warn(wrap):
    store = scored()
    with pytest.warns(RuntimeWarning, match=UNWEIGHTED):
        epoch(LossHook(nn.CrossEntropyLoss(), store), wrap(weighing(store)))


def test_it_warns_of_missing_weights_once():
    store = scored()
    hook, sampler = LossHook(nn.CrossEntropyLoss(), store), weighing(store)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        epoch(hook, sampler)
        epoch(hook, sampler)
    assert len(caught) == 1


def test_a_hook_with_the_sampler_has_nothing_to_warn_of():
    store = scored()
    sampler = weighing(store)
    epoch(LossHook(nn.CrossEntropyLoss(), store, sampler=sampler), sampler)


def test_a_plan_that_weighs_nothing_has_nothing_to_warn_of():
    store = scored()
    epoch(LossHook(nn.CrossEntropyLoss(), store), AdaptiveSampler(store, Prune(0.5, by="loss")))


def test_losses_one_by_one_may_be_weighed_by_the_loop_without_a_warning():
    store = scored()
    epoch(LossHook(nn.CrossEntropyLoss(reduction="none"), store), weighing(store))


def test_a_loop_that_weighs_its_own_losses_may_record_without_a_warning():
    store = scored()
    hook, sampler = LossHook(nn.CrossEntropyLoss(), store), weighing(store)
    for inputs, _ in hook.watch(DataLoader(IndexedDataset(dataset()), sampler=sampler, batch_size=8)):
        hook.record(hook.claim(len(inputs)), loss=torch.ones(len(inputs)))
