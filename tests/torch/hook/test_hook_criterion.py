"""The hook is its criterion: the same value, gradient, parameters and checkpoints, to the last bit."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Forgetting, Last, Loss, Score
from adaptive_sampler.selection import KeepAll, Weigh
from adaptive_sampler.torch import AdaptiveSampler, IndexedDataset, LossHook, PartsLoss
from tests.torch.samples import CLASSES, N, make_store

W = torch.tensor([0.2, 1.5, 3.0])
ROWS = torch.arange(8)


class Focal(nn.Module):
    """A criterion of one's own, without `reduction`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gamma", torch.tensor(2.0))
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, input, target):
        p = input.softmax(1).gather(1, target[:, None])[:, 0]
        return (-((1 - p) ** self.gamma) * p.log()).mean() * self.scale


CLASSIFICATION = {
    "cross entropy": lambda reduction: nn.CrossEntropyLoss(reduction=reduction),
    "label smoothing": lambda reduction: nn.CrossEntropyLoss(label_smoothing=0.1, reduction=reduction),
    "class weights": lambda reduction: nn.CrossEntropyLoss(weight=W.clone(), reduction=reduction),
    "ignored labels": lambda reduction: nn.CrossEntropyLoss(ignore_index=2, reduction=reduction),
    "all at once": lambda reduction: nn.CrossEntropyLoss(
        weight=W.clone(), ignore_index=1, label_smoothing=0.2, reduction=reduction
    ),
}
REDUCTIONS = ["mean", "sum", "none"]


def logits_and_labels(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(8, CLASSES, generator=generator)
    return logits.requires_grad_(), torch.randint(CLASSES, (8,), generator=generator)


def value_and_gradient(criterion, input, target, **rows):
    """Of the sum of what the criterion returns, whatever its reduction."""
    leaf = input.detach().clone().requires_grad_()
    value = criterion(leaf, target, **rows)
    value.sum().backward()
    return value.detach(), leaf.grad


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", CLASSIFICATION)
def test_value_and_gradient_are_the_criterions_own_to_the_last_bit(name, reduction):
    criterion = CLASSIFICATION[name](reduction)
    hook = LossHook(criterion, make_store(Loss(), EL2N(), Forgetting()))
    ours = value_and_gradient(hook, *logits_and_labels(), rows=ROWS)
    own = value_and_gradient(criterion, *logits_and_labels())
    assert [torch.equal(a, b) for a, b in zip(ours, own, strict=True)] == [True, True]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("criterion", [nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.BCEWithLogitsLoss])
@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_regression_and_binary_criteria_record_one_loss_a_sample(criterion, reduction, shape):
    store = make_store(Loss())
    generator = torch.Generator().manual_seed(1)
    predicted, target = (torch.rand(shape, generator=generator) for _ in range(2))
    ours = value_and_gradient(LossHook(criterion(reduction=reduction), store), predicted, target, rows=ROWS)
    own = value_and_gradient(criterion(reduction=reduction), predicted, target)
    assert [torch.equal(a, b) for a, b in zip(ours, own, strict=True)] == [True, True]
    assert torch.equal(torch.tensor(store["loss"][:8]), criterion(reduction="none")(predicted, target).reshape(8))


def test_a_criterion_of_ones_own_without_a_reduction_runs_as_it_is():
    criterion, store = Focal(), make_store(EL2N())
    ours = value_and_gradient(LossHook(criterion, store), *logits_and_labels(), rows=ROWS)
    own = value_and_gradient(criterion, *logits_and_labels())
    assert [torch.equal(a, b) for a, b in zip(ours, own, strict=True)] == [True, True]
    assert store.observed("el2n") == 8


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["cross entropy", "label smoothing", "class weights"])
def test_what_is_recorded_is_the_unreduced_loss(name, reduction):
    store, (logits, labels) = make_store(Loss()), logits_and_labels()
    LossHook(CLASSIFICATION[name](reduction), store)(logits, labels, rows=ROWS)
    recorded, losses = torch.tensor(store["loss"][:8]), CLASSIFICATION[name]("none")(logits, labels)
    torch.testing.assert_close(recorded, losses.detach(), rtol=1e-6, atol=1e-7)


def test_label_distributions_are_taken_as_the_criterion_takes_them():
    logits, _ = logits_and_labels()
    target, store = torch.full((8, CLASSES), 1 / CLASSES), make_store(Loss(), EL2N())
    value = LossHook(nn.CrossEntropyLoss(), store)(logits, target, rows=ROWS)
    assert torch.equal(value, F.cross_entropy(logits, target))
    assert store.observed("el2n") == 8


def test_rows_whose_label_is_ignored_are_not_recorded():
    store, (logits, _) = make_store(Loss(), EL2N()), logits_and_labels()
    labels = torch.tensor([0, -100, 1, 2, -100, 0, 1, 2])
    LossHook(nn.CrossEntropyLoss(), store)(logits, labels, rows=ROWS)
    assert store.count("el2n")[:8].tolist() == [1, 0, 1, 1, 0, 1, 1, 1]
    assert LossHook(nn.CrossEntropyLoss(), store).skipped == 0


def test_a_batch_of_ignored_labels_alone_records_nothing():
    store, (logits, _) = make_store(), logits_and_labels()
    hook = LossHook(nn.CrossEntropyLoss(reduction="sum"), store)
    hook(logits, torch.full((8,), -100), rows=ROWS)
    assert (store.observed("loss"), hook.skipped) == (0, 0)


def test_autocast_to_bfloat16_changes_nothing_but_the_precision():
    store, model = make_store(), nn.Linear(4, CLASSES)
    hook, inputs, labels = LossHook(nn.CrossEntropyLoss(), store), torch.randn(8, 4), torch.arange(8) % CLASSES
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(inputs)
        value = hook(logits, labels, rows=ROWS)
        own = hook.criterion(logits, labels)
    assert logits.dtype == torch.bfloat16
    assert torch.equal(value, own)
    assert store["loss"][:8] == pytest.approx(
        F.cross_entropy(logits.float(), labels, reduction="none").tolist(), rel=1e-2
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_precision_are_recorded(dtype):
    store, (logits, labels) = make_store(Loss(), EL2N()), logits_and_labels()
    LossHook(nn.CrossEntropyLoss(), store)(logits.to(dtype), labels, rows=ROWS)
    assert (store.observed("loss"), store.observed("el2n")) == (8, 8)


# -- the module --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(weight=W.clone()), Focal(), nn.CrossEntropyLoss()])
def test_state_dict_keys_are_the_criterions_own_also_inside_a_model(criterion):
    hook = LossHook(criterion, make_store())
    model = nn.Sequential(nn.Linear(2, 2), hook)
    assert list(hook.state_dict()) == list(criterion.state_dict())
    assert list(model.state_dict()) == list(nn.Sequential(nn.Linear(2, 2), criterion).state_dict())


def test_an_old_checkpoint_loads_strictly_into_the_criterion_inside_a_model():
    old = nn.Sequential(nn.Linear(2, 2), Focal())
    nn.init.constant_(old[1].scale, 9.0)
    new = nn.Sequential(nn.Linear(2, 2), LossHook(Focal(), make_store()))
    new.load_state_dict(old.state_dict(), strict=True)
    assert new[1].criterion.scale == 9.0


def test_its_parameters_are_the_criterions():
    hook = LossHook(Focal(), make_store())
    assert [id(p) for p in hook.parameters()] == [id(hook.criterion.scale)]


def test_moving_it_moves_the_criterion():
    hook = LossHook(nn.CrossEntropyLoss(weight=W.clone()), make_store()).to(torch.float64)
    assert hook.criterion.weight.dtype == torch.float64
    assert (
        hook(torch.zeros(8, CLASSES, dtype=torch.float64), torch.zeros(8, dtype=torch.int64), rows=ROWS).dtype
        == torch.float64
    )


@pytest.mark.parametrize("mode", [True, False])
def test_train_and_eval_reach_the_criterion(mode):
    hook = LossHook(nn.Sequential(nn.Dropout()), make_store())
    assert hook.train(mode) is hook
    assert (hook.training, hook.criterion.training, hook.criterion[0].training) == (mode, mode, mode)


def test_a_deep_copy_copies_the_criterion_and_shares_the_store():
    store = make_store()
    model = nn.Sequential(nn.Linear(2, 2), LossHook(nn.CrossEntropyLoss(weight=W.clone()), store, nonfinite="raise"))
    twin = copy.deepcopy(model)
    assert twin[1].store is store
    assert twin[1].criterion.weight is not model[1].criterion.weight
    twin[1](*logits_and_labels(), rows=ROWS)
    assert store.observed("loss") == 8


@pytest.mark.parametrize("criterion", [F.cross_entropy, None, lambda logits, target: logits.sum()])
def test_a_criterion_that_is_no_module_is_refused_with_the_remedy(criterion):
    with pytest.raises(InvalidValue, match=r"is no torch.nn.Module. Use the module of that loss.*hook.record"):
        LossHook(criterion, make_store())


def test_a_reduction_of_none_that_still_reduces_is_refused_with_the_remedy():
    class Reduced(nn.Module):
        reduction = "mean"

        def forward(self, input, target):
            return F.cross_entropy(input, target)

    with pytest.raises(InvalidValue, match=r"Reduced with reduction='none' gives losses \(\) for 8 samples"):
        LossHook(Reduced(), make_store())(*logits_and_labels(), rows=ROWS)


@pytest.mark.parametrize("scores", [[Loss()], [Loss(), EL2N()]])
def test_a_criterion_that_cannot_be_taken_apart_records_no_other_loss_in_its_place(scores):
    store = make_store(*scores)
    with pytest.raises(InvalidValue, match=r"Focal returns one loss for 8 samples and has no `reduction`.*hook.record"):
        LossHook(Focal(), store)(*logits_and_labels(), rows=ROWS)
    assert store.observed("loss") == 0


def test_a_criterion_without_a_reduction_that_returns_the_samples_losses_is_recorded():
    class PerSample(nn.Module):
        def forward(self, input, target):
            return (input - target).square().mean(1)

    store = make_store(Loss())
    predicted, target = torch.rand(8, 10, requires_grad=True), torch.rand(8, 10)
    LossHook(PerSample(), store)(predicted, target, rows=ROWS)
    assert torch.equal(torch.tensor(store["loss"][:8]), PerSample()(predicted, target).detach())


def test_record_outputs_records_what_a_call_does_and_returns_nothing():
    for criterion in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=W.clone(), ignore_index=1)):
        called, told = make_store(Loss(), EL2N()), make_store(Loss(), EL2N())
        LossHook(criterion, called)(*logits_and_labels(), rows=ROWS)
        assert LossHook(criterion, told).record_outputs(ROWS, *logits_and_labels()) is None
        assert called.session.digest() == told.session.digest()


# -- several losses a sample -------------------------------------------------------------------------------------------

SEVERAL = {
    "regression": (nn.MSELoss, "mean", lambda: (torch.rand(8, 3), torch.rand(8, 3))),
    "many labels": (nn.BCEWithLogitsLoss, "mean", lambda: (torch.rand(8, 4), torch.rand(8, 4).round())),
    "tokens": (nn.CrossEntropyLoss, "mean", lambda: (torch.rand(8, CLASSES, 5), torch.zeros(8, 5, dtype=torch.int64))),
    "pixels": (nn.CrossEntropyLoss, "sum", lambda: (torch.rand(8, CLASSES, 5, 2), torch.zeros(8, 5, 2).long())),
    "distributions": (nn.KLDivLoss, "batchmean", lambda: (torch.rand(8, 3).log_softmax(1), torch.rand(8, 3))),
}


@pytest.mark.parametrize("weigh", [False, True])
@pytest.mark.parametrize("name", SEVERAL)
def test_the_lines_that_the_error_for_several_losses_a_sample_gives_train_as_the_criterion_does(name, weigh):
    kind, reduction, draw = SEVERAL[name]
    given, target = draw()
    store = make_store(Loss())
    store.fold("loss", range(N), np.linspace(0.1, 2, N))
    sampler = AdaptiveSampler(store, Weigh("loss", "linear") if weigh else KeepAll(), shuffle=False)
    hook = LossHook(kind(reduction=reduction), store, sampler=sampler)
    loader = DataLoader(IndexedDataset(TensorDataset(torch.arange(N))), batch_size=8, sampler=sampler)
    begun = iter(hook.watch(loader))
    next(begun)
    with pytest.raises(InvalidValue, match=r"loss has shape \(8, .*one loss a sample, \(8,\)") as raised:
        hook(given, target)
    made, called = str(raised.value).split("reduction='none'; ")[1].split(". Where")[0].split("; in the loop ")
    names = {"criterion": kind(reduction="none"), "target": target, "hook": hook, "LossHook": LossHook}
    exec(made, names | {"PartsLoss": PartsLoss}, names)
    own, given = given.clone().requires_grad_(), given.requires_grad_()
    for _ in names["hook"].watch(loader):
        exec(called, names | {"input": given})
        break
    weights = torch.from_numpy(sampler.loss_weights(range(8)))
    losses = kind(reduction="none")(own, target).flatten(1)
    divided = {"mean": losses.numel(), "batchmean": 8, "sum": 1}[reduction]
    ((losses.sum(1) * weights).sum() / divided).backward()
    torch.testing.assert_close(given.grad, own.grad)
    assert store.count("loss")[:8].tolist() == [2] * 8


def test_a_measure_of_ones_own_may_take_several_losses_a_sample():
    store = make_store(Score("longest", lambda loss: loss.amax(1), Last()))
    LossHook(nn.CrossEntropyLoss(), store)(torch.zeros(8, CLASSES, 5), torch.zeros(8, 5, dtype=torch.int64), rows=ROWS)
    assert store["longest"][:8] == pytest.approx([np.log(CLASSES)] * 8)


def test_an_unknown_way_with_nonfinite_values_is_refused():
    with pytest.raises(InvalidValue, match="nonfinite='drop': one of 'skip', 'raise'"):
        LossHook(nn.CrossEntropyLoss(), make_store(), nonfinite="drop")


def test_a_store_that_takes_nothing_of_a_loss_call_is_an_error_that_says_what_it_takes():
    from adaptive_sampler.scoring import GraNd

    with pytest.raises(InvalidValue, match=r"feeds no score. They take grand: "):
        LossHook(nn.CrossEntropyLoss(), make_store(GraNd(), n=N))(*logits_and_labels(), rows=ROWS)


def test_a_hook_shows_its_criterion():
    assert repr(LossHook(nn.CrossEntropyLoss(), make_store())) == "LossHook(CrossEntropyLoss())"
