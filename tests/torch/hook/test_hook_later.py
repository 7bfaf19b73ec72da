"""A mean that passed as one over samples is asked again; and what is no samples' own is not cut with them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_sampler.errors import InvalidValue
from tests.torch.hook.test_hook_own_mean import LABELS, LOGITS, Own, W, balanced, plain
from tests.torch.hook.test_hook_weights import ROWS, hooked
from tests.torch.samples import CLASSES

EVEN = 0.01 * LOGITS.detach()
SURE = (F.one_hot(LABELS, CLASSES) * torch.tensor([3.0, 0, 3, 0, 3, 0, 3, 0])[:, None]).requires_grad_()


class Hardest(nn.Module):
    """Online hard example mining: the mean of the losses above a threshold."""

    reduction = "mean"

    def forward(self, input, target):
        losses = plain(input, target)
        return losses if self.reduction == "none" else losses[losses > 0.7].mean()


class CoTeaching(nn.Module):
    """The mean of the smallest losses, of all of them in the beginning."""

    reduction, rate = "mean", 0.0

    def forward(self, input, target):
        losses = plain(input, target)
        kept = int((1 - self.rate) * len(losses))
        return losses if self.reduction == "none" else losses.sort().values[:kept].mean()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_threshold_that_selects_later_is_refused_then(steps):
    hook, _ = hooked(Hardest())
    for _ in range(steps):
        hook(EVEN, LABELS, rows=ROWS)
    with pytest.raises(InvalidValue, match=r"Hardest cannot be weighed by the hook: .* Earlier batches of it passed"):
        hook(SURE, LABELS, rows=ROWS)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_selection_that_begins_later_is_refused_then(steps):
    hook, _ = hooked(CoTeaching())
    for _ in range(steps):
        hook(LOGITS, LABELS, rows=ROWS)
    hook.rate = 0.5
    with pytest.raises(
        InvalidValue, match=r"CoTeaching cannot be weighed by the hook: .* Earlier batches of it passed"
    ):
        hook(LOGITS, LABELS, rows=ROWS)


class Rooted(nn.Module):
    """A mean that turns into another one whose value is the same."""

    reduction, later = "mean", False

    def forward(self, input, target):
        losses = plain(input, target)
        if self.reduction == "none":
            return losses
        return losses.mean() if not self.later else losses.sum() / 8


def test_one_that_gives_the_same_value_is_seen_when_it_is_asked_again():
    hook, _ = hooked(Rooted())
    for _ in range(3):
        hook(LOGITS, LABELS, rows=ROWS)
    hook.later = True
    with pytest.raises(
        InvalidValue, match=r"Rooted cannot be weighed by the hook: .* add up to it.*Earlier batches of it passed"
    ):
        hook(LOGITS, LABELS, rows=ROWS)


def test_a_sum_over_samples_passes_however_often_it_is_asked():
    hook, weights = hooked(Own(plain, balanced))
    for step in range(70):
        labels = LABELS.roll(step)
        expected = (weights * plain(LOGITS, labels)).sum() / W[labels].sum()
        torch.testing.assert_close(hook(LOGITS, labels, rows=ROWS), expected)


class ByClass(nn.Module):
    """Its third argument are the weights of the classes."""

    reduction = "mean"

    def forward(self, input, target, classes):
        losses = classes[target] * plain(input, target)
        return losses if self.reduction == "none" else losses.sum() / classes[target].sum()


@pytest.mark.parametrize("labels", [[7, 6, 5, 4, 3, 2, 1, 0], [0, 1, 0, 1, 1, 1, 0, 1]])
def test_class_weights_as_many_as_the_batch_stay_whole(labels):
    hook, weights = hooked(ByClass())
    logits, target = torch.randn(8, 8, requires_grad=True), torch.tensor(labels)
    classes = torch.linspace(0.5, 3, 8)
    value = hook(logits, target, classes, rows=ROWS)
    expected = (weights * classes[target] * plain(logits, target)).sum() / classes[target].sum()
    torch.testing.assert_close(value, expected)


def test_keywords_in_any_order_are_searched_alike():
    class Named(nn.Module):
        reduction = "mean"

        def forward(self, input, target):
            losses = plain(input, target)
            return losses if self.reduction == "none" else losses.sum() / input.softmax(1).amax(1).sum()

    hook, _ = hooked(Named())
    with pytest.raises(InvalidValue, match="cannot be weighed"):
        hook(target=LABELS, input=LOGITS, rows=ROWS)


def test_a_later_batch_that_is_too_small_to_be_parted_is_weighed_as_those_before():
    class Paired(nn.Module):
        reduction = "mean"

        def forward(self, input, target):
            if len(input) < 2:
                raise RuntimeError("two samples or more")
            losses = plain(input, target)
            return losses if self.reduction == "none" else losses.mean()

    hook, weights = hooked(Paired())
    hook(LOGITS, LABELS, rows=ROWS)
    two = slice(0, 2)
    value = hook(LOGITS[two], LABELS[two], rows=ROWS[two])
    torch.testing.assert_close(value, (weights[two] * plain(LOGITS[two], LABELS[two])).mean())


def test_one_that_cannot_be_parted_and_whose_denominator_is_another_is_asked_by_its_gradient():
    class Paired(Hardest):
        def forward(self, input, target):
            if len(input) < 8:
                raise RuntimeError("eight samples or more")
            return super().forward(input, target)

    hook, _ = hooked(Paired())
    hook._adaptive_sampler.denominator._share = 1.0  # as after larger batches
    with pytest.raises(InvalidValue, match=r"depends on the input.*Earlier batches of it passed"):
        hook(SURE, LABELS, rows=ROWS)
