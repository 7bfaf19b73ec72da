"""A criterion is the same after its losses were taken one by one; and what it says its `reduction` is, is believed."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.torch import LossHook
from tests.torch.hook.test_hook_weights import ROWS, hooked
from tests.torch.samples import CLASSES, make_store

LOGITS = torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(1)).requires_grad_()
LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1])
EACH = torch.arange(8)


def reduced(criterion, losses):
    return losses if criterion.reduction == "none" else losses.mean()


class Delegating(nn.Module):
    """Its `reduction` is that of a module which a copy of it shares."""

    def __init__(self):
        super().__init__()
        self.inner = nn.CrossEntropyLoss()

    @property
    def reduction(self):
        return self.inner.reduction

    @reduction.setter
    def reduction(self, reduction):
        self.inner.reduction = reduction

    def forward(self, input, target):
        return self.inner(input, target)


class Both(Delegating):
    """Its `reduction` is its own, and setting it sets that of a shared module too."""

    def __init__(self):
        super().__init__()
        self.own = "mean"

    @property
    def reduction(self):
        return self.own

    @reduction.setter
    def reduction(self, reduction):
        self.own = self.inner.reduction = reduction


class Plain(nn.Module):
    reduction = "mean"

    def forward(self, input, target):
        return reduced(self, F.cross_entropy(input, target, reduction="none"))


SHARING = {
    "a property": (Delegating, lambda c: c.inner.reduction),
    "a property and more": (Both, lambda c: c.inner.reduction),
    "torch.compile": (lambda: torch.compile(Plain(), backend="eager"), lambda c: c.reduction),
}


@pytest.mark.parametrize("name", SHARING)
def test_a_criterion_whose_reduction_is_shared_is_the_same_after_each_call(name):
    make, told = SHARING[name]
    hook = LossHook(make(), make_store(Loss()))
    values = [hook(LOGITS, LABELS, rows=EACH) for _ in range(3)]
    assert (told(hook.criterion), [v.ndim for v in values]) == ("mean", [0, 0, 0])
    losses = torch.tensor(hook.store["loss"][:8])
    torch.testing.assert_close(losses, F.cross_entropy(LOGITS, LABELS, reduction="none").detach())


@pytest.mark.parametrize("name", SHARING)
def test_plan_weights_hold_where_the_reduction_is_shared(name):
    make, told = SHARING[name]
    hook, weights = hooked(make())
    expected = (weights * F.cross_entropy(LOGITS, LABELS, reduction="none")).mean()
    for _ in range(2):
        torch.testing.assert_close(hook(LOGITS, LABELS, rows=ROWS), expected)
    assert told(hook.criterion) == "mean"


def test_a_criterion_that_raises_is_the_same_after_it():
    hook = LossHook(Delegating(), make_store(Loss()))
    hook.inner.register_forward_pre_hook(lambda module, given: None if module.reduction == "mean" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hook(LOGITS, LABELS, rows=EACH)
    assert hook.criterion.reduction == "mean"


def test_a_reduction_that_cannot_be_set_is_refused():
    class Fixed(Delegating):
        @property
        def reduction(self):
            return self.inner.reduction

    with pytest.raises(InvalidValue, match=r"Fixed has a `reduction` that cannot be set to 'none'.*hook\.record"):
        LossHook(Fixed(), make_store(Loss()))(LOGITS, LABELS, rows=EACH)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")
def test_a_scripted_criterion_runs_and_is_refused_where_a_score_takes_its_loss():
    scripted = torch.jit.script(nn.CrossEntropyLoss())
    hook = LossHook(scripted, make_store(EL2N()))
    torch.testing.assert_close(hook(LOGITS, LABELS, rows=EACH), F.cross_entropy(LOGITS, LABELS))
    with pytest.raises(InvalidValue, match=r"RecursiveScriptModule .*reduction='none'"):
        LossHook(scripted, make_store(Loss()))(LOGITS, LABELS, rows=EACH)


class PerTask(nn.Module):
    """One loss a task, as where tasks are weighed; one a sample with reduction="none"."""

    reduction = "mean"

    def forward(self, input, target):
        losses = F.binary_cross_entropy_with_logits(input, target, reduction="none")
        return losses.mean(1) if self.reduction == "none" else losses.mean(0)


def test_as_many_losses_as_samples_are_not_the_samples_where_the_reduction_is_a_mean():
    hook, target = LossHook(PerTask(), make_store(Loss())), torch.eye(CLASSES)
    value = hook(LOGITS[:CLASSES], target, rows=torch.arange(CLASSES))
    each = F.binary_cross_entropy_with_logits(LOGITS[:CLASSES], target, reduction="none")
    torch.testing.assert_close(value, each.mean(0))
    torch.testing.assert_close(torch.tensor(hook.store["loss"][:CLASSES]), each.mean(1).detach())


class Keeping(nn.Module):
    """A mean of shape (1,), as for DataParallel."""

    reduction = "mean"

    def forward(self, input, target):
        losses = F.cross_entropy(input, target, reduction="none")
        return losses if self.reduction == "none" else losses.mean(0, keepdim=True)


def test_a_batch_of_one_records_its_loss_before_it_is_weighed():
    hook, weights = hooked(Keeping())
    value = hook(LOGITS[:1], LABELS[:1], rows=ROWS[:1])
    loss = F.cross_entropy(LOGITS[:1], LABELS[:1])
    torch.testing.assert_close(value[0], weights[0] * loss)
    assert hook.store["loss"][int(ROWS[0])] == pytest.approx(loss.item())


def test_a_criterion_that_cannot_be_copied_is_refused():
    class Alone(Plain):
        def __getstate__(self):
            raise TypeError("one of a kind")

    with pytest.raises(InvalidValue, match=r"Alone cannot be copied .*one of a kind.*hook\.record"):
        LossHook(Alone(), make_store(Loss()))(LOGITS, LABELS, rows=EACH)
