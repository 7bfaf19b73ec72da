"""What a hook cannot mine it refuses by name, and says what to do instead, which then works."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.torch import OHEM, LossHook, PartsLoss, SelectiveBackprop
from tests.torch.samples import CLASSES, make_store

B = 6
ROWS = torch.arange(B)
LABELS = ROWS % CLASSES
LOGITS = torch.randn(B, CLASSES, generator=torch.Generator().manual_seed(0)).requires_grad_()


def hooked(criterion=None, mine=None, *scores, **named):
    return LossHook(criterion or nn.CrossEntropyLoss(), make_store(*scores), mine=mine or OHEM(2), **named)


class Noisy(nn.Module):
    reduction = "mean"

    def forward(self, input, target):
        losses = F.cross_entropy(F.dropout(input, 0.1), target, reduction="none")
        return losses if self.reduction == "none" else losses.mean()


class Counting(nn.Module):
    """Has no `reduction`, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls, self.labels = 0, Counter()

    def forward(self, input, target):
        self.calls += 1
        return F.cross_entropy(input, target, reduction="none")


@pytest.mark.parametrize(("criterion", "why"), [(Noisy(), "draws random numbers"), (Counting(), "changes its calls")])
def test_a_criterion_that_may_not_be_called_twice(criterion, why):
    with pytest.raises(
        InvalidValue, match=f"{type(criterion).__name__} {why} when it is called, and mine= calls it twice"
    ):
        hooked(criterion, None, Loss())(LOGITS, LABELS, rows=ROWS)


@pytest.mark.parametrize("criterion", [Noisy(), Counting()])
def test_its_remedy_mines(criterion):
    hook = LossHook(criterion, make_store(Loss()))
    if hasattr(criterion, "reduction"):
        hook.reduction = "none"
    losses = hook(LOGITS, LABELS, rows=ROWS)
    (gradient,) = torch.autograd.grad(losses[OHEM(2).choose(losses.detach())].mean(), LOGITS)
    assert len(gradient.abs().sum(1).nonzero()) == 2
    assert hook.store.observed("loss") == B


def test_a_criterion_with_one_loss_for_the_batch():
    class Whole(nn.Module):
        def forward(self, input, target):
            return F.cross_entropy(input, target)

    with pytest.raises(InvalidValue, match="Whole returns one loss for 6 samples and has no `reduction`"):
        hooked(Whole())(LOGITS, LABELS, rows=ROWS)


def test_a_criterion_with_several_losses_a_sample_and_its_remedy():
    given, target = torch.rand(B, 4).requires_grad_(), torch.zeros(B, 4)
    with pytest.raises(
        InvalidValue, match=r"loss has shape \(6, 4\): one loss a sample.*LossHook\(PartsLoss\(\), .*mine=hook.mine\)"
    ):
        hooked(nn.MSELoss(), None, Loss())(given, target, rows=ROWS)
    hook = hooked(PartsLoss(), OHEM(2), Loss())
    hook(nn.MSELoss(reduction="none")(given, target), rows=ROWS).backward()
    assert len(given.grad.sum(1).nonzero()) == 2


def test_ctc_is_not_cut_down_and_is_selected():
    inputs = torch.randn(9, B, CLASSES, generator=torch.Generator().manual_seed(1)).log_softmax(2).requires_grad_()
    call = inputs, torch.ones(B, 2, dtype=torch.long), torch.full((B,), 9), torch.full((B,), 2)
    hook = hooked(nn.CTCLoss(), OHEM(2), Loss())
    with pytest.raises(InvalidValue, match=r"CTCLoss takes \(time, batch, classes\).*chosen = hook.select\(log_probs"):
        hook(*call, rows=ROWS)
    hook = hooked(nn.CTCLoss(), OHEM(2), Loss())
    chosen = hook.select(*call, rows=ROWS)
    hook.criterion(inputs[:, chosen], *(x[chosen] for x in call[1:])).backward()
    assert torch.equal(inputs.grad.abs().sum((0, 2)).nonzero()[:, 0], chosen)
    assert hook.store.observed("loss") == B


class PerClass(nn.Module):
    """Takes weights of classes, of which there are as many as samples in the batch."""

    reduction = "mean"

    def forward(self, input, target, weight):
        losses = F.cross_entropy(input, target, reduction="none") * weight[target % len(weight)]
        return losses if self.reduction == "none" else losses.mean()


def test_an_argument_that_has_the_batchs_length_by_chance():
    with pytest.raises(InvalidValue, match="an argument has the batch's length and is not of its samples"):
        hooked(PerClass(), OHEM(2))(LOGITS, LABELS, torch.arange(1.0, B + 1), rows=ROWS)


class Importance(nn.Module):
    reduction = "mean"

    def forward(self, input, target, importance):
        losses = importance * F.cross_entropy(input, target, reduction="none")
        return losses if self.reduction == "none" else losses.mean()


def test_an_argument_of_the_samples_is_cut_down_with_them():
    importance = torch.tensor([1.0, 100, 1, 1, 100, 1])
    hook = hooked(Importance(), OHEM(2))
    assert torch.equal(hook(LOGITS, LABELS, importance, rows=ROWS), Importance()(LOGITS[[1, 4]], LABELS[[1, 4]], 100))


@pytest.mark.parametrize("mine", [OHEM, SelectiveBackprop, 0.25, "ohem", object()])
def test_what_is_no_miner(mine):
    with pytest.raises(InvalidValue, match=r"mine=.*: a miner such as OHEM\(0.25\) or SelectiveBackprop\(\)"):
        LossHook(nn.CrossEntropyLoss(), make_store(), mine=mine)


class Returns:
    """A miner of one's own that returns what it was made with."""

    def __init__(self, chosen):
        self.chosen = chosen

    def choose(self, losses):
        return self.chosen


@pytest.mark.parametrize(
    "chosen",
    [[0, 1], torch.ones(B, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.long), torch.arange(7)]
    + [torch.tensor(some) for some in ([6], [-1], [2, 2], [3, 1])],
)
def test_a_miner_that_gives_no_positions(chosen):
    with pytest.raises(InvalidValue, match=r"of 6 samples: positions in the batch are needed, \(k,\) int64"):
        hooked(mine=Returns(chosen))(LOGITS, LABELS, rows=ROWS)


def test_a_miner_that_chooses_none():
    with pytest.raises(InvalidValue, match="chose none of 6 samples, of which there is no mean: choose at least one"):
        hooked(mine=Returns(torch.zeros(0, dtype=torch.long)))(LOGITS, LABELS, rows=ROWS)


def test_a_miner_of_ones_own_mines():
    hook = hooked(mine=Returns(torch.tensor([4, 5])))
    assert torch.equal(hook(LOGITS, LABELS, rows=ROWS), F.cross_entropy(LOGITS[4:], LABELS[4:]))


def test_select_without_a_miner_and_its_remedy():
    hook = LossHook(nn.CrossEntropyLoss(), make_store())
    with pytest.raises(InvalidValue, match=r"nothing to choose by: set hook.mine = OHEM\(0.25\)"):
        hook.select(LOGITS, LABELS, rows=ROWS)
    hook.mine = OHEM(0.25)
    assert len(hook.select(LOGITS, LABELS, rows=ROWS)) == 2


def test_a_loss_that_is_computed_elsewhere_and_its_remedy():
    hook = hooked()
    with pytest.raises(InvalidValue, match=r"mine=OHEM\(2\) chooses among the losses of hook\(input, target\)"):
        hook.record_outputs(ROWS, LOGITS, LABELS)
    hook.mine = None
    hook.record_outputs(ROWS, LOGITS, LABELS)
    assert hook.store.observed("loss") == B


def test_a_trainer_that_takes_the_mean_itself():
    pytest.importorskip("transformers")
    from adaptive_sampler.torch.transformers import means

    hook = LossHook(means.TrainersLoss(), make_store(Loss()), mine=OHEM(2))
    with pytest.raises(InvalidValue, match="this training computes its loss elsewhere: nothing would be mined"):
        means.Means(object(), hook)
