"""How many samples of equal weight an epoch's samples are worth (Kish 1965): (Σw)²/Σw² of the weights applied."""

import numpy as np
import pytest
import torch
from torch import nn

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import LossHook, TokenLossHook
from tests.torch.hook.test_hook_criterion import logits_and_labels
from tests.torch.hook.test_hook_weights import ROWS, hooked
from tests.torch.samples import make_store
from tests.torch.tokens.samples import hooked as hooked_tokens
from tests.torch.tokens.samples import outputs
from tests.torch.tokens.test_token_hook_weights import RAMP, weighing


def kish(weights):
    weights = np.asarray(weights, np.float64)
    return weights.sum() ** 2 / (weights**2).sum()


def test_it_is_zero_before_anything_was_recorded():
    assert LossHook(nn.CrossEntropyLoss(), make_store()).effective_samples == 0.0


def test_it_is_the_number_of_samples_where_nothing_weighs():
    hook = LossHook(nn.CrossEntropyLoss(), make_store(Loss()))
    for _ in range(2):
        hook(*logits_and_labels(), rows=ROWS)
    assert hook.effective_samples == 16


def test_it_is_kishs_of_the_weights_that_were_applied():
    hook, weights = hooked(nn.CrossEntropyLoss())
    hook(*logits_and_labels(), rows=ROWS)
    assert hook.effective_samples == pytest.approx(kish(weights))
    assert hook.effective_samples < 8


def test_it_begins_anew_with_each_epoch():
    hook, _ = hooked(nn.CrossEntropyLoss())
    hook(*logits_and_labels(), rows=ROWS)
    hook.epoch = 1
    assert hook.effective_samples == 0.0
    hook(*(x[:1] for x in logits_and_labels()), rows=ROWS[:1])
    assert hook.effective_samples == pytest.approx(1)


def test_each_position_of_a_watched_batch_counts_once():
    hook = LossHook(nn.CrossEntropyLoss(), make_store(Loss()))
    logits, labels = logits_and_labels()
    for _ in hook.watch([(ROWS, None)]):
        hook(logits[:6], labels[:6], rows=ROWS[:6])
        hook(logits[4:], labels[4:], rows=ROWS[4:])
        with hook.again():
            hook(logits, labels, rows=ROWS)
    assert hook.effective_samples == 8


def test_a_validation_does_not_count():
    hook, _ = hooked(nn.CrossEntropyLoss())
    with torch.no_grad():
        hook(*logits_and_labels(), rows=ROWS)
    assert hook.effective_samples == 0.0


def test_a_rehearsal_does_not_count():
    hook, _ = hooked(nn.CrossEntropyLoss())
    hook.store.session.rehearsal = True
    hook(*logits_and_labels(), rows=ROWS)
    assert hook.effective_samples == 0.0


def test_what_a_loop_computes_itself_counts_without_weights():
    hook = LossHook(nn.CrossEntropyLoss(), make_store(Loss()))
    hook.record(ROWS, loss=torch.ones(8))
    hook.record_outputs(ROWS, *logits_and_labels())
    assert hook.effective_samples == 16


def test_of_a_token_loss_hook_it_counts_documents():
    hook = weighing(RAMP)
    hook(*outputs(4, 2, 5), rows=[7, 2, 9], cu_seqlens=[0, 4, 6, 11])
    assert hook.effective_samples == pytest.approx(kish(RAMP[[7, 2, 9]]))


def test_of_a_token_loss_hook_without_weights_it_is_the_number_of_documents():
    store = make_store(Loss())
    hook = TokenLossHook(store, sampler=AdaptiveSampler(store, KeepAll()))
    hook(*outputs(4, 2, 5), rows=[7, 2, 9], cu_seqlens=[0, 4, 6, 11])
    hook.record_outputs([1], *outputs(3))
    assert hook.effective_samples == 4


def test_of_a_token_loss_hook_pieces_of_a_document_in_a_call_count_once():
    hook = weighing(RAMP)
    hook(*outputs(4, 2, 5), rows=[7, 2, 7], cu_seqlens=[0, 4, 6, 11])
    assert hook.effective_samples == pytest.approx(kish(RAMP[[7, 2]]))


@pytest.mark.filterwarnings("ignore:1 of 3 documents have no label that counts:RuntimeWarning")
def test_of_a_token_loss_hook_a_document_without_a_counted_token_does_not_count():
    hook = weighing(RAMP)
    hook(*outputs(4, 1, 5), rows=[7, 2, 9], cu_seqlens=[0, 4, 5, 10])
    assert hook.effective_samples == pytest.approx(kish(RAMP[[7, 9]]))


def test_of_a_token_loss_hook_each_position_of_a_watched_batch_counts_once():
    hook, (logits, labels) = weighing(RAMP), outputs(12)
    logits, labels = logits.view(3, 4, -1), labels.view(3, 4)
    for _ in hook.watch([(torch.tensor([7, 2, 9]), None)]):
        hook(logits[:2], labels[:2], rows=[7, 2])
        hook(logits[1:], labels[1:], rows=[2, 9])
    assert hook.effective_samples == pytest.approx(kish(RAMP[[7, 2, 9]]))


def test_reading_it_parts_no_pieces_that_wait():
    hook = hooked_tokens(Loss(), joins=True)
    for seed in range(2):
        hook(*outputs(3, seed=seed), rows=[4], cu_seqlens=[0, 3])
        assert hook.effective_samples == seed + 1
    assert hook.store.count("loss")[4] == 1
