"""State and randomness outside of torch's tensors and generator: a criterion that has such is called once a call too."""

import copy
import random
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.torch import LossHook
from tests.torch.hook.test_hook_weights import hooked
from tests.torch.samples import CLASSES, make_store

ROWS = torch.arange(6)
LOGITS = (3 * torch.eye(6, CLASSES)).requires_grad_()
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0


class Stateful(nn.Module):
    """A criterion that holds `state` and calls `change(state)` when it is called, from call `start` on."""

    def __init__(self, state, change, start=1):
        super().__init__()
        self.reduction, self.state, self.change, self.start, self.calls = "mean", state, change, start, 0

    def forward(self, input, target):
        self.calls += 1
        if self.calls >= self.start:
            self.change(self.state)
        losses = F.cross_entropy(input, target, reduction="none")
        return losses if self.reduction == "none" else losses.mean()


def count(module):
    module.calls += 1


KINDS = {
    "a counter in a submodule": (Counter(), count, r"its state\.calls"),
    "an array": (np.zeros(3), lambda x: np.add.at(x, [1], 1), "its state"),
    "a large array": (np.zeros((2**21, 2)), lambda x: np.add.at(x, (77, 1), 1), "its state"),
    "a dict of floats": ({"seen": 0.0}, lambda x: x.update(seen=x["seen"] + 0.5), "its state"),
    "a dict that grows": ({}, lambda x: x.update({len(x): 1.0}), "its state"),
    "a list": ([], lambda x: x.append(1.0), "its state"),
    "a deque": (deque([1, 2], maxlen=2), lambda x: x.append(sum(x)), "its state"),
    "a set": (set(), lambda x: x.add(len(x)), "its state"),
    "an object": (SimpleNamespace(step=0), lambda x: setattr(x, "step", x.step + 1), r"its state\.step"),
    "tensors in a deque": (deque([torch.zeros(1)]), lambda x: x[0].add_(1), "its state"),
    "a generator of torch's": (torch.Generator(), lambda x: torch.rand(1, generator=x), "its state"),
    "a generator of NumPy's": (np.random.default_rng(0), lambda x: x.random(), "its state"),
    "a generator of Python's": (random.Random(0), lambda x: x.random(), "its state"),
    "Python's own generator": (None, lambda _: random.random(), None),
    "NumPy's own generator": (None, lambda _: np.random.random(), None),  # noqa: NPY002
}


def made(name, start=1):
    state, change, _ = KINDS[name]
    return Stateful(state if isinstance(state, torch.Generator) else copy.deepcopy(state), change, start)


def words(name):
    what = KINDS[name][2]
    return "draws random numbers" if what is None else f"changes {what}"


@pytest.mark.parametrize("name", KINDS)
def test_a_second_call_that_would_change_it_again_is_refused_before_it_is_made(name):
    hook = LossHook(made(name), make_store(Loss()))
    with pytest.raises(InvalidValue, match=rf"Stateful {words(name)} when it is called.*one by one"):
        hook(LOGITS, LABELS, rows=ROWS)
    assert hook.criterion.calls == 1


@pytest.mark.parametrize("name", KINDS)
def test_the_remedy_records(name):
    hook = LossHook(made(name), make_store(Loss()))
    hook.reduction = "none"
    hook(LOGITS, LABELS, rows=ROWS).mean().backward()
    assert hook.store.observed("loss") == 6


@pytest.mark.parametrize("name", KINDS)
def test_plan_weights_refuse_it(name):
    hook, _ = hooked(made(name))
    with pytest.raises(
        InvalidValue, match=rf"Stateful cannot be weighed by the hook: it {words(name)} .* several times"
    ):
        hook(LOGITS, LABELS, rows=ROWS)


@pytest.mark.parametrize("name", ["a counter in a submodule", "an array", "NumPy's own generator"])
def test_what_begins_later_is_seen_at_the_next_close_look(name):
    hook = LossHook(made(name, start=5), make_store(Loss()))
    for _ in range(7):
        hook(LOGITS, LABELS, rows=ROWS)
    with pytest.raises(InvalidValue, match=f"Stateful {words(name)} when it is called"):
        hook(LOGITS, LABELS, rows=ROWS)


def test_a_counter_of_the_criterion_itself_is_no_matter_where_it_runs_itself():
    hook = LossHook(Stateful(None, lambda _: None), make_store(Loss()))
    for _ in range(3):
        hook(LOGITS, LABELS, rows=ROWS)
    assert hook.criterion.calls == 3


@pytest.mark.parametrize("before", [0, torch.zeros(1)])
def test_plan_weights_refuse_what_a_twin_would_change_in_place_of_the_criterion(before):
    class Annealed(nn.Module):
        def __init__(self):
            super().__init__()
            self.reduction, self.step = "mean", before

        def forward(self, input, target):
            self.step = self.step + 1
            losses = F.cross_entropy(input, target, reduction="none")
            return losses if self.reduction == "none" else losses.mean()

    hook, _ = hooked(Annealed())
    with pytest.raises(InvalidValue, match="Annealed cannot be weighed by the hook: it changes its step when"):
        hook(LOGITS, LABELS, rows=ROWS)


def test_where_no_score_takes_the_loss_it_runs_as_it_is():
    hook = LossHook(made("a counter in a submodule"), make_store(EL2N()))
    for _ in range(3):
        hook(LOGITS, LABELS, rows=ROWS)
    assert hook.criterion.state.calls == 3
