"""What a criterion changes when it is called is changed once a call of the hook, or the hook says why it cannot."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.torch import LossHook
from tests.torch.hook.test_hook_weights import hooked
from tests.torch.samples import CLASSES, make_store

ROWS = torch.tensor([3, 9, 4, 20, 8, 11])
LOGITS = (3 * torch.eye(6, CLASSES)).requires_grad_()
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


class Running(nn.Module):
    """As Early-Learning Regularisation does: it pulls towards an average of what it saw."""

    def __init__(self, keep):
        super().__init__()
        self.reduction, self.keep = "mean", keep
        if keep == "buffer" or keep == "buffer, assigned":
            self.register_buffer("seen", torch.zeros(CLASSES))
        elif keep == "list":
            self.kept = [torch.zeros(CLASSES)]
        elif keep == "module":
            self.inner = nn.BatchNorm1d(CLASSES)
        elif keep == "random":
            self.drop = nn.Dropout()
        else:
            self.seen = torch.zeros(CLASSES)

    def forward(self, input, target):
        now = input.detach().softmax(1).mean(0)
        if self.keep in ("buffer", "tensor"):
            self.seen.mul_(0.5).add_(now)
        elif self.keep in ("buffer, assigned", "tensor, assigned"):
            self.seen = 0.5 * self.seen + now
        elif self.keep == "list":
            self.kept[0].add_(now)
        elif self.keep == "module":
            return self.reduced(self.inner(input), target)
        else:
            return self.reduced(self.drop(input), target)
        return self.reduced(input, target)

    def reduced(self, input, target):
        losses = F.cross_entropy(input, target, reduction="none") + self.state().sum()
        return losses.mean() if self.reduction == "mean" else losses

    def state(self):
        if self.keep == "list":
            return self.kept[0]
        return {"module": lambda: self.inner.running_mean, "random": lambda: torch.zeros(1)}.get(
            self.keep, lambda: self.seen
        )()


IN_PLACE = ["buffer", "buffer, assigned", "tensor", "list", "module"]


@pytest.mark.parametrize("keep", IN_PLACE)
def test_a_second_call_that_would_change_it_again_is_refused_before_it_is_made(keep):
    hook, alone = LossHook(Running(keep), make_store(Loss())), Running(keep)
    with pytest.raises(
        InvalidValue, match=r"Running changes tensors that it holds when it is called.*one by one.*'none'"
    ):
        hook(LOGITS, LABELS, rows=ROWS)
    alone(LOGITS, LABELS)
    assert torch.equal(hook.criterion.state(), alone.state())


def test_a_criterion_that_draws_random_numbers_draws_them_once():
    hook = LossHook(Running("random"), make_store(Loss()))
    torch.manual_seed(5)
    with pytest.raises(InvalidValue, match="Running draws random numbers when it is called"):
        hook(LOGITS, LABELS, rows=ROWS)
    ours = torch.get_rng_state()
    torch.manual_seed(5)
    Running("random")(LOGITS, LABELS)
    assert torch.equal(ours, torch.get_rng_state())


@pytest.mark.parametrize("keep", [*IN_PLACE, "random"])
def test_the_remedy_records_and_changes_it_once(keep):
    hook, alone = LossHook(Running(keep), make_store(Loss())), Running(keep)
    hook.reduction = "none"
    torch.manual_seed(5)
    losses = hook(LOGITS, LABELS, rows=ROWS)
    losses.mean().backward()
    torch.manual_seed(5)
    assert torch.equal(losses.mean(), alone(LOGITS, LABELS))
    assert torch.equal(hook.criterion.state(), alone.state())
    assert hook.store.observed("loss") == 6


@pytest.mark.parametrize("keep", [*IN_PLACE, "random"])
def test_where_no_score_takes_the_loss_it_runs_as_it_is(keep):
    hook, alone = LossHook(Running(keep), make_store(EL2N())), Running(keep)
    torch.manual_seed(5)
    values = [hook(LOGITS, LABELS, rows=ROWS) for _ in range(2)]
    torch.manual_seed(5)
    assert [float(v.detach()) for v in values] == [float(alone(LOGITS, LABELS).detach()) for _ in range(2)]


def test_what_is_assigned_to_an_attribute_is_assigned_once_and_the_losses_are_those_of_the_value():
    hook, alone = LossHook(Running("tensor, assigned"), make_store(Loss())), Running("tensor, assigned")
    for _ in range(3):
        value = hook(LOGITS, LABELS, rows=ROWS)
        alone(LOGITS, LABELS)
    assert torch.equal(hook.criterion.state(), alone.state())
    torch.testing.assert_close(torch.tensor(hook.store["loss"][ROWS.numpy()]).mean(), value.detach())


@pytest.mark.parametrize("keep", [*IN_PLACE, "random"])
def test_plan_weights_refuse_it_for_they_would_call_it_several_times(keep):
    hook, _ = hooked(Running(keep))
    with pytest.raises(
        InvalidValue, match=r"Running cannot be weighed by the hook: it (changes|draws) .* several times"
    ):
        hook(LOGITS, LABELS, rows=ROWS)
