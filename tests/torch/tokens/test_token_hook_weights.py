"""A document's weight multiplies the losses of its tokens; the denominator stays that of the unweighted loss."""

import numpy as np
import pytest
import torch
from hypothesis import given
from torch.nn import functional as F

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import RowError
from adaptive_sampler.plan import Plan
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll, Prune, make
from adaptive_sampler.torch import IndexedDataset, TokenLossHook
from tests.torch.tokens.packs import WAYS, packs
from tests.torch.tokens.samples import WORDS, N, hooked, make_store, outputs

LENGTHS = [4, 2, 5]
CU = [0, 4, 6, 11]
ROWS = [7, 2, 9]


class Given:
    """A policy that keeps every row, with these loss weights."""

    def __init__(self, weights):
        self.weights = np.asarray(weights, np.float32)

    def plan(self, store, *, epoch, seed) -> Plan:
        return make(store, KeepAll(), epoch, seed, weights=self.weights)


def weighing(weights, *scores, **arguments):
    """A hook whose sampler's plan weighs row r by weights[r]."""
    store = make_store(*scores or [Loss()])
    return TokenLossHook(store, sampler=AdaptiveSampler(store, Given(weights)), **arguments)


def twin(logits, labels, document_of, weight_of, items=None):
    """Σ over tokens, one by one, of weight · loss; divided by the number of tokens, or by `items`."""
    total, count = torch.zeros(()), 0
    for b in range(len(labels)):
        for t in range(labels.shape[1] - 1):
            document = int(document_of[b][t])
            if document == int(document_of[b][t + 1]) and document >= 0 and labels[b, t + 1] != -100:
                total = total + weight_of[document] * F.cross_entropy(logits[b, t], labels[b, t + 1])
                count += 1
    return total / (count if items is None else items), count


RAMP = np.linspace(0.25, 4, N)


@pytest.mark.filterwarnings("ignore:[0-9]+ of [0-9]+ documents have no label that counts:RuntimeWarning")
@pytest.mark.parametrize("way", WAYS)
@given(pack=packs(padded=False, cut=True))
def test_the_value_and_its_gradient_are_the_weighted_sum_over_the_number_of_tokens(way, pack):
    hook = weighing(RAMP)
    expected, count = twin(pack.logits, pack.labels, pack.row_map, RAMP)
    if not count:
        return
    ours = hook(pack.logits, pack.labels, **pack.given(way))
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, pack.logits)[0] for value in (ours, expected)))


@pytest.mark.parametrize("items", [20, torch.tensor(20)], ids=["number", "tensor"])
def test_the_whole_steps_number_of_tokens_is_the_denominator_where_it_is_given(items):
    logits, labels = outputs(*LENGTHS)
    documents = [np.repeat(ROWS, LENGTHS)]
    value = weighing(RAMP)(logits, labels, rows=ROWS, cu_seqlens=CU, num_items_in_batch=items)
    torch.testing.assert_close(value, twin(logits, labels, documents, RAMP, 20)[0])


@pytest.mark.parametrize("policy", [KeepAll(), Given(np.ones(N)), Prune(0.5, "loss")], ids=["all", "ones", "pruned"])
@pytest.mark.parametrize("items", [None, 13])
def test_weights_of_one_give_the_unweighted_value_bit_for_bit(policy, items):
    store, (logits, labels) = make_store(Loss()), outputs(12)
    sampler = AdaptiveSampler(store, policy)
    given = {"rows": [3, 4], "num_items_in_batch": items}
    logits, labels = logits.view(2, 6, WORDS), labels.view(2, 6)
    value = TokenLossHook(store, sampler=sampler)(logits, labels, **given)
    assert torch.equal(value, hooked()(logits, labels, **given))


def test_a_weight_of_two_is_the_document_twice_in_a_sum():
    logits, labels = outputs(*LENGTHS)
    weights = np.ones(N)
    weights[2] = 2
    ours = weighing(weights)(logits, labels, rows=ROWS, cu_seqlens=CU, num_items_in_batch=30)
    once, again = (one.split(LENGTHS, 1) for one in (logits, labels))
    twice = hooked()(
        torch.cat([*once, once[1]], 1),
        torch.cat([*again, again[1]], 1),
        rows=[*ROWS, 2],
        cu_seqlens=[*CU, 13],
        num_items_in_batch=30,
    )
    torch.testing.assert_close(ours, twice)


def test_one_rank_and_the_mean_of_two_ranks_times_their_number_are_the_same():
    """DDP takes the mean of the ranks' gradients, so each multiplies its loss by the number of ranks, as the Trainer does."""
    logits, labels = outputs(24)
    logits, labels, rows = logits.view(4, 6, WORDS), labels.view(4, 6).clone(), [3, 5, 8, 9]
    labels[0, 2:] = -100
    items = int((labels[:, 1:] != -100).sum())
    hook = weighing(RAMP)
    whole = hook(logits, labels, rows=rows, num_items_in_batch=items)
    parts = [
        2 * hook(logits[i : i + 2], labels[i : i + 2], rows=rows[i : i + 2], num_items_in_batch=items) for i in (0, 2)
    ]
    together = sum(parts) / 2
    torch.testing.assert_close(together, whole, rtol=1e-6, atol=0)
    kept = {"retain_graph": True}
    first, second = (torch.autograd.grad(value, logits, **kept)[0] for value in (whole, together))
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-9)


def test_the_same_holds_of_micro_batches_that_are_accumulated():
    logits, labels = outputs(12)
    logits, labels = logits.view(2, 6, WORDS), labels.view(2, 6)
    hook = weighing(RAMP)
    whole = hook(logits, labels, rows=[3, 5], num_items_in_batch=10)
    parts = [hook(logits[[i]], labels[[i]], rows=[row], num_items_in_batch=10) for i, row in enumerate([3, 5])]
    torch.testing.assert_close(parts[0] + parts[1], whole, rtol=1e-6, atol=0)


def test_what_is_recorded_is_the_loss_before_the_weights():
    logits, labels = outputs(*LENGTHS)
    ours, plain = weighing(RAMP), hooked(Loss())
    for hook in (ours, plain):
        hook(logits, labels, rows=ROWS, cu_seqlens=CU)
    assert ours.store["loss"].tobytes() == plain.store["loss"].tobytes()


def test_a_weight_of_zero_leaves_a_document_out_of_the_gradient_and_records_it():
    logits, labels = outputs(*LENGTHS)
    weights = np.ones(N)
    weights[2] = 0
    hook = weighing(weights)
    hook(logits, labels, rows=ROWS, cu_seqlens=CU).backward()
    assert not logits.grad[0, 4:6].any()
    assert logits.grad[0, :3].any()
    assert hook.store.count("loss")[2] == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_weighted_in_float32(dtype):
    logits, labels = outputs(*LENGTHS)
    half = logits.detach().to(dtype).requires_grad_()
    value = weighing(RAMP)(half, labels, rows=ROWS, cu_seqlens=CU)
    assert torch.equal(value, weighing(RAMP)(half.float(), labels, rows=ROWS, cu_seqlens=CU))
    value.backward()
    assert half.grad.dtype == dtype


def test_a_row_outside_the_plan_is_an_error():
    store = make_store(Loss())
    store.fold("loss", range(N), np.arange(N))
    hook = TokenLossHook(store, sampler=AdaptiveSampler(store, Prune(0.5, "loss")))
    with pytest.raises(RowError, match="row 3 is not in plan"):
        hook(*outputs(4), rows=[3])


def test_a_weighing_plan_that_the_hook_does_not_apply_is_told_once():
    store = make_store(Loss())
    hook, sampler = TokenLossHook(store), AdaptiveSampler(store, Given(RAMP))
    loader = torch.utils.data.DataLoader(IndexedDataset(torch.zeros(N, 1), store), batch_size=9, sampler=sampler)
    logits, labels = outputs(9 * 4)
    watched = iter(hook.watch(loader))
    next(watched)
    with pytest.warns(RuntimeWarning, match=r"the plan .* weighs samples, and this hook was given no sampler"):
        hook(logits.view(9, 4, WORDS), labels.view(9, 4))
    next(watched)
    hook(logits.view(9, 4, WORDS), labels.view(9, 4))


def test_an_evaluation_without_rows_is_not_weighted():
    hook, (logits, labels) = weighing(RAMP), outputs(4)
    with torch.no_grad():
        assert torch.equal(hook(logits, labels), hooked()(logits, labels))


def test_an_evaluation_with_rows_is_weighted_and_records_nothing():
    hook, (logits, labels) = weighing(RAMP), outputs(4)
    with torch.no_grad():
        value = hook(logits, labels, rows=[3])
        torch.testing.assert_close(value, float(RAMP[3]) * hooked()(logits, labels, rows=[3]))
    assert hook.store.observed("loss") == 0


def test_a_call_again_is_weighted_and_records_nothing():
    hook, (logits, labels) = weighing(RAMP), outputs(4)
    with hook.again():
        value = hook(logits, labels, rows=[3])
    torch.testing.assert_close(value, float(RAMP[3]) * hooked()(logits, labels, rows=[3]))
    assert hook.store.observed("loss") == 0
