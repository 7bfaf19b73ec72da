"""Scores that read softmax(logits) beside one class a sample are refused under a criterion that has no such thing."""

import pytest
import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import (
    EL2N,
    Confidence,
    Entropy,
    Error,
    Forgetting,
    Last,
    Loss,
    Margin,
    Score,
    Variability,
)
from adaptive_sampler.torch import LossHook
from tests.torch.samples import make_store

ROWS = torch.arange(4)
OUTPUTS = (0.1 + 0.8 * torch.rand(4, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
ONE_HOT = torch.eye(3)[[0, 1, 2, 0]]  # values that would pass for distributions
SIGNS = 2 * ONE_HOT - 1


class Custom(nn.BCEWithLogitsLoss):
    """Of one's own, by inheriting."""


CRITERIA = {
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), (ONE_HOT,)),
    "BCELoss": (nn.BCELoss(), (ONE_HOT,)),
    "MSELoss": (nn.MSELoss(), (ONE_HOT,)),
    "L1Loss": (nn.L1Loss(), (ONE_HOT,)),
    "SmoothL1Loss": (nn.SmoothL1Loss(), (ONE_HOT,)),
    "HuberLoss": (nn.HuberLoss(), (ONE_HOT,)),
    "PoissonNLLLoss": (nn.PoissonNLLLoss(), (ONE_HOT,)),
    "GaussianNLLLoss": (nn.GaussianNLLLoss(), (ONE_HOT, torch.ones(4, 3))),
    "MultiLabelMarginLoss": (nn.MultiLabelMarginLoss(), (torch.tensor([[0, -1, -1]] * 4),)),
    "MultiLabelSoftMarginLoss": (nn.MultiLabelSoftMarginLoss(), (ONE_HOT,)),
    "SoftMarginLoss": (nn.SoftMarginLoss(), (SIGNS,)),
    "HingeEmbeddingLoss": (nn.HingeEmbeddingLoss(), (SIGNS,)),
    "CosineEmbeddingLoss": (nn.CosineEmbeddingLoss(), (ONE_HOT, torch.ones(4))),
    "TripletMarginLoss": (nn.TripletMarginLoss(), (ONE_HOT, SIGNS)),
    "LinearCrossEntropyLoss": (nn.LinearCrossEntropyLoss(3, 5), (torch.tensor([0, 1, 2, 0]),)),
    "AdaptiveLogSoftmaxWithLoss": (
        nn.AdaptiveLogSoftmaxWithLoss(3, 5, [2], div_value=1),
        (torch.tensor([0, 1, 2, 0]),),
    ),
    "KLDivLoss": (nn.KLDivLoss(reduction="batchmean", log_target=True), (ONE_HOT,)),
    "Custom": (Custom(), (ONE_HOT,)),
}


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("score", [EL2N(), Margin(), Confidence(), Variability(), Forgetting(), Error(), Entropy()])
def test_a_score_of_a_softmax_is_refused_whatever_the_values(name, score):
    criterion, given = CRITERIA[name]
    store = make_store(Loss(), score)
    with pytest.raises(
        InvalidValue, match=rf"score '{score.name}' takes softmax\(logits\), .* what {name} is called with.*Leave"
    ):
        LossHook(criterion, store)(OUTPUTS, *given, rows=ROWS)
    assert store.observed("loss") == 0


@pytest.mark.parametrize("name", ["BCELoss", "GaussianNLLLoss", "MultiLabelMarginLoss"])
def test_record_outputs_refuses_them_too(name):
    criterion, given = CRITERIA[name]
    with pytest.raises(InvalidValue, match=r"score 'mine' takes softmax\(logits\)"):
        LossHook(criterion, make_store(Margin(name="mine"))).record_outputs(ROWS, OUTPUTS, given[0])


class Held(nn.Module):
    """A criterion inside a module that passes on whatever it is called with."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *given, **named):
        return self.inner(*given, **named)


@pytest.mark.parametrize("hold", [Held, lambda criterion: torch.compile(criterion, backend="eager")])
def test_they_are_refused_inside_another_module_too(hold):
    hook = LossHook(hold(nn.BCEWithLogitsLoss()), make_store(EL2N()))
    with pytest.raises(InvalidValue, match=r"score 'el2n' takes softmax\(logits\)"):
        hook(OUTPUTS, ONE_HOT, rows=ROWS)


@pytest.mark.parametrize("name", CRITERIA)
def test_a_measure_of_ones_own_is_not(name):
    criterion, given = CRITERIA[name]
    store = make_store(Score("size", lambda logits, labels: logits.abs().sum(1), Last()))
    LossHook(criterion, store)(OUTPUTS, *given, rows=ROWS)
    assert store.observed("size") == 4


def test_the_remedies_work():
    hook = LossHook(nn.BCEWithLogitsLoss(reduction="none"), make_store(EL2N(), Margin()))
    logits, classes = OUTPUTS.detach(), torch.tensor([0, 1, 2, 0])
    hook.record(ROWS, logits=logits, labels=classes)
    hook.store.update(ROWS, logits=logits, labels=classes)
    without = make_store(Loss())
    LossHook(nn.MSELoss(), without)(OUTPUTS[:, 0], torch.zeros(4), rows=ROWS)
    assert (hook.store.count("margin")[:4].tolist(), without.observed("loss")) == ([2] * 4, 4)


def test_a_criterion_of_ones_own_is_judged_by_its_labels():
    class Sigmoids(nn.Module):
        def forward(self, input, target):
            return nn.functional.binary_cross_entropy_with_logits(input, target, reduction="none").mean(1)

    hook = LossHook(Sigmoids(), make_store(Loss(), EL2N()))
    with pytest.raises(InvalidValue, match="label row at position 1 sums to 2: a distribution over classes"):
        hook(OUTPUTS, torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]), rows=ROWS)
    assert hook.store.observed("loss") == 0


def test_what_is_skipped_says_that_labels_may_be_no_distribution():
    hook = LossHook(nn.CrossEntropyLoss(), make_store(EL2N()))
    words = r"diverged, or labels are outside the classes, or label rows are no distribution \(>= 0, sum 1\)"
    with pytest.warns(RuntimeWarning, match=words):
        hook.record(ROWS, logits=torch.full((4, 3), torch.nan), labels=torch.zeros(4).long())
