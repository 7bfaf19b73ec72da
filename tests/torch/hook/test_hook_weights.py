"""With a sampler the hook weighs the loss by the plan, over the criterion's own denominator, and records it unweighted."""

import numpy as np
import pytest
import torch
from torch import nn

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue, RowError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Draw, KeepAll, Prune
from adaptive_sampler.torch import LossHook
from tests.torch.hook.test_hook_criterion import CLASSIFICATION, REDUCTIONS, Focal, logits_and_labels
from tests.torch.samples import CLASSES, N, make_store

ROWS = torch.tensor([3, 9, 4, 20, 4, 11, 23, 8])


def weighing_sampler(store):
    """A sampler whose plan holds every row and weighs them from about ¼ to 10."""
    store.fold("loss", range(N), np.arange(1.0, N + 1))
    sampler = AdaptiveSampler(store, Draw("loss", 5000, floor=0.1, unbiased=True))
    assert sampler.plan.num_rows == N
    return sampler


def hooked(criterion):
    """A hook with plan weights, and those of `ROWS`."""
    store = make_store(Loss())
    sampler = weighing_sampler(store)
    hook = LossHook(criterion, store, sampler=sampler)
    next(iter(sampler))  # the epoch has begun: its plan is fixed
    return hook, torch.from_numpy(sampler.loss_weights(ROWS))


def denominator(criterion, labels):
    """What the criterion's own mean divides by, told by what it returns for losses of one."""
    total = summing(criterion)(torch.zeros(len(labels), CLASSES), labels)
    return total / criterion(torch.zeros(len(labels), CLASSES), labels)


def summing(criterion):
    """A criterion like the given one that sums."""
    return nn.CrossEntropyLoss(
        weight=criterion.weight,
        ignore_index=criterion.ignore_index,
        label_smoothing=criterion.label_smoothing,
        reduction="sum",
    )


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_a_mean_is_the_weighted_sum_over_the_criterions_own_denominator(name):
    criterion = CLASSIFICATION[name]("mean")
    hook, weights = hooked(criterion)
    logits, labels = logits_and_labels()
    losses = CLASSIFICATION[name]("none")(logits, labels)
    expected = (weights * losses).sum() / denominator(criterion, labels)
    torch.testing.assert_close(hook(logits, labels, rows=ROWS), expected)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_a_sum_is_the_weighted_sum(name):
    hook, weights = hooked(CLASSIFICATION[name]("sum"))
    logits, labels = logits_and_labels()
    torch.testing.assert_close(
        hook(logits, labels, rows=ROWS), (weights * CLASSIFICATION[name]("none")(logits, labels)).sum()
    )


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_unreduced_losses_are_weighted_one_by_one(name):
    hook, weights = hooked(CLASSIFICATION[name]("none"))
    logits, labels = logits_and_labels()
    torch.testing.assert_close(hook(logits, labels, rows=ROWS), weights * CLASSIFICATION[name]("none")(logits, labels))


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_a_regression_loss_is_weighted_whatever_its_shape(shape):
    hook, weights = hooked(nn.MSELoss())
    predicted, target = torch.rand(shape), torch.rand(shape)
    expected = (weights * (predicted - target).reshape(8) ** 2).mean()
    torch.testing.assert_close(hook(predicted, target, rows=ROWS), expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_gradient_is_weighted_too(reduction):
    hook, weights = hooked(nn.CrossEntropyLoss(reduction=reduction))
    logits, labels = logits_and_labels()
    plain = torch.autograd.grad(nn.CrossEntropyLoss(reduction=reduction)(logits, labels).sum(), logits)[0]
    ours = torch.autograd.grad(hook(logits, labels, rows=ROWS).sum(), logits)[0]
    torch.testing.assert_close(ours, plain * weights[:, None])


def test_what_is_recorded_is_the_loss_before_the_weights():
    hook, _ = hooked(nn.CrossEntropyLoss())
    logits, labels = logits_and_labels()
    hook(logits, labels, rows=ROWS)
    losses = nn.CrossEntropyLoss(reduction="none")(logits, labels)
    torch.testing.assert_close(torch.tensor(hook.store["loss"][[3, 9, 20]]), losses[[0, 1, 3]].detach())


@pytest.mark.parametrize("policy", [KeepAll(), Prune(0.5, "loss")])
def test_where_every_weight_is_one_the_criterion_itself_runs(policy):
    store = make_store(Loss())
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=AdaptiveSampler(store, policy))
    logits, labels = logits_and_labels()
    assert torch.equal(hook(logits, labels, rows=ROWS), nn.CrossEntropyLoss()(logits, labels))


def test_an_evaluation_without_rows_is_not_weighted():
    hook, _ = hooked(nn.CrossEntropyLoss())
    logits, labels = logits_and_labels()
    with torch.no_grad():
        assert torch.equal(hook(logits, labels), nn.CrossEntropyLoss()(logits, labels))


def test_a_row_outside_the_plan_is_an_error():
    store = make_store(Loss())
    store.fold("loss", range(N), np.arange(N))
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=AdaptiveSampler(store, Prune(0.5, "loss")))
    with pytest.raises(RowError, match="row 3 is not in plan"):
        hook(*logits_and_labels(), rows=ROWS)


def test_a_criterion_without_a_reduction_cannot_be_weighted():
    store = make_store(Loss())
    with pytest.raises(
        InvalidValue, match=r"Focal has no `reduction` to take them apart by.*sampler.loss_weights\(rows\)"
    ):
        LossHook(Focal(), store, sampler=AdaptiveSampler(store, KeepAll()))


def test_a_reduction_that_is_not_known_cannot_be_weighted():
    class Odd(nn.CrossEntropyLoss):
        def forward(self, input, target):
            return nn.functional.cross_entropy(input, target, reduction="none")

    criterion = Odd()
    criterion.reduction = "median"
    hook, _ = hooked(criterion)
    with pytest.raises(
        InvalidValue, match="reduction='median' is not known: one of 'mean', 'sum', 'batchmean', 'none'"
    ):
        hook(*logits_and_labels(), rows=ROWS)


class Counting:
    """Keeps everything, and remembers that it was asked."""

    def __init__(self):
        self.asked = 0

    def plan(self, store, *, epoch, seed):
        self.asked += 1
        return KeepAll().plan(store, epoch=epoch, seed=seed)


def test_watching_with_a_sampler_asks_for_no_plan_ahead_of_its_loader():
    store, policy = make_store(Loss()), Counting()
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=AdaptiveSampler(store, policy))
    assert next(hook.watch([(torch.arange(2), "sample")])) == "sample"
    assert policy.asked == 0
