"""A hook where a criterion would be: copies, hooks on either, what is set later, what is held inside another module."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.torch import LossHook
from tests.torch.hook.test_hook_weights import ROWS, hooked, weighing_sampler
from tests.torch.samples import CLASSES, make_store

LOGITS = torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(2)).requires_grad_()
LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1])
EACH = torch.arange(8)


class Apart(nn.Module):
    """Losses one by one, no `reduction`, a parameter."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.eye(CLASSES))

    def forward(self, input, target):
        return F.cross_entropy(F.linear(input, self.W), target, reduction="none")


def recorded(hook):
    return torch.tensor(hook.store["loss"][:8])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_a_copy_keeps_what_listens_to_the_calls(copied, kind):
    heard = []
    hook = LossHook(nn.CrossEntropyLoss(), make_store())
    getattr(hook, kind)(lambda *_: heard.append(kind))
    copied(hook)(LOGITS, LABELS, rows=EACH).backward()
    assert heard == [kind]


@pytest.mark.parametrize("weighed", [False, True])
def test_a_pre_hook_of_the_criterion_is_in_the_losses_and_the_value(weighed):
    criterion = nn.CrossEntropyLoss()
    criterion.register_forward_pre_hook(lambda module, given: (given[0] / 2, given[1]))
    losses = F.cross_entropy(LOGITS / 2, LABELS, reduction="none")
    if weighed:
        hook, weights = hooked(criterion)
        torch.testing.assert_close(hook(LOGITS, LABELS, rows=ROWS), (weights * losses).mean())
    else:
        hook = LossHook(criterion, make_store(Loss()))
        torch.testing.assert_close(hook(LOGITS, LABELS, rows=EACH), losses.mean())
        torch.testing.assert_close(recorded(hook), losses.detach())


def test_a_forward_hook_of_the_criterion_is_in_the_losses():
    criterion = nn.CrossEntropyLoss()
    criterion.register_forward_hook(lambda module, given, value: 3 * value)
    hook = LossHook(criterion, make_store(Loss()))
    hook(LOGITS, LABELS, rows=EACH)
    torch.testing.assert_close(recorded(hook), 3 * F.cross_entropy(LOGITS, LABELS, reduction="none").detach())


def test_a_criterion_that_takes_rows_is_refused_when_the_hook_is_made_and_the_remedy_works():
    class Rows(nn.Module):
        reduction = "mean"

        def forward(self, input, target, rows=None):
            losses = F.cross_entropy(input, target, reduction="none") * rows
            return losses if self.reduction == "none" else losses.mean()

    with pytest.raises(InvalidValue, match=r"Rows\.forward has a parameter `rows` of its own") as refused:
        LossHook(Rows(), make_store(Loss()))
    hook = LossHook(held(refused, Rows()), make_store(Loss()))
    torch.testing.assert_close(hook(LOGITS, LABELS, 2.0, rows=EACH), 2 * F.cross_entropy(LOGITS, LABELS))
    torch.testing.assert_close(recorded(hook), 2 * F.cross_entropy(LOGITS, LABELS, reduction="none").detach())


# -- held inside another module ----------------------------------------------------------------------------------------


class Scheduled(nn.Module):
    """A criterion that has a name of the hook's."""

    def __init__(self):
        super().__init__()
        self.reduction, self.epoch = "mean", 0

    def forward(self, input, target):
        losses = F.cross_entropy(input, target, reduction="none")
        return losses if self.reduction == "none" else losses.mean()


def held(refused, criterion):
    """The criterion inside the module that the message prints."""
    scope = {"nn": nn}
    exec(re.search(r"class Held.*(?=\nLossHook)", str(refused.value), re.DOTALL)[0], scope)
    return scope["Held"](criterion)


@pytest.fixture
def printed():
    with pytest.raises(InvalidValue, match="has an attribute 'epoch' of its own") as refused:
        LossHook(Scheduled(), make_store())
    return held(refused, Scheduled())


@pytest.mark.parametrize("named", [("input", "target"), ("target", "input"), ("target",), ()])
def test_the_printed_module_records_with_arguments_by_position_and_by_keyword(printed, named):
    hook, plain = (
        LossHook(printed, make_store(Loss(), EL2N())),
        LossHook(nn.CrossEntropyLoss(), make_store(Loss(), EL2N())),
    )
    arguments = {"input": LOGITS, "target": LABELS}
    given = [x for name, x in arguments.items() if name not in named]
    for one in (hook, plain):
        value = one(*given, **{name: arguments[name] for name in named}, rows=EACH)
        torch.testing.assert_close(value, F.cross_entropy(LOGITS, LABELS))
    for score in ("loss", "el2n"):
        torch.testing.assert_close(torch.tensor(hook.store[score][:8]), torch.tensor(plain.store[score][:8]))
    assert hook.reduction == "mean"


def test_the_printed_module_takes_plan_weights(printed):
    hook, weights = hooked(printed)
    losses = F.cross_entropy(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(hook(LOGITS, target=LABELS, rows=ROWS), (weights * losses).mean())


def test_keywords_that_do_not_say_what_they_are_are_refused():
    class Any(nn.Module):
        reduction = "none"

        def forward(self, **named):
            return F.cross_entropy(named["a"], named["b"], reduction="none")

    hook = LossHook(Any(), make_store(Loss()))
    with pytest.raises(InvalidValue, match=r"Any takes any keywords, so b and a do not say.*by position"):
        hook(b=LABELS, a=LOGITS, rows=EACH)


# -- set later ---------------------------------------------------------------------------------------------------------


def test_a_sampler_that_is_set_later_is_refused_as_one_that_is_given():
    store = make_store(Loss())
    hook, sampler = LossHook(Apart(), store), weighing_sampler(store)
    with pytest.raises(InvalidValue, match="Apart has no `reduction` to take them apart by"):
        hook.sampler = sampler
    assert hook.sampler is None


def test_another_criterion_is_refused_with_the_line_that_makes_its_hook():
    hook = LossHook(nn.CrossEntropyLoss(), make_store())
    with pytest.raises(InvalidValue, match=r"make a hook of MSELoss .*LossHook\(criterion, hook\.store"):
        hook.criterion = nn.MSELoss()


def test_a_parametrization_of_the_hook_is_refused_and_the_criterion_is_as_before():
    hook = LossHook(Apart(), make_store(Loss()))
    with pytest.raises(InvalidValue, match=r"weight_norm\(hook\.criterion"):
        nn.utils.parametrizations.weight_norm(hook, "W")
    assert [name for name, _ in hook.named_parameters()] == ["W"]
    nn.utils.parametrizations.weight_norm(hook.criterion, "W")
    torch.testing.assert_close(hook(LOGITS, LABELS, rows=EACH), F.cross_entropy(LOGITS, LABELS, reduction="none"))
