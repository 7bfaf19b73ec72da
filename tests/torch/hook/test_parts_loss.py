"""`PartsLoss` takes the losses that a model computes itself: a hook around it records and weighs each sample's."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Entropy, Loss
from adaptive_sampler.selection import Weigh
from adaptive_sampler.torch import AdaptiveSampler, IndexedDataset, LossHook, PartsLoss
from tests.torch.samples import N, make_store

BOXES, CLASSES = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.0, 1.0])  # of three samples
PIXELS = torch.arange(12.0).view(3, 2, 2)  # means 1.5, 5.5, 9.5


@pytest.mark.parametrize(
    ("losses", "each"),
    [
        (BOXES, [1, 2, 3]),
        ({"boxes": BOXES, "classes": CLASSES}, [1.5, 2, 4]),
        (PIXELS, [1.5, 5.5, 9.5]),
        ({"boxes": BOXES, "pixels": PIXELS}, [2.5, 7.5, 12.5]),
        (BOXES[:, None], [1, 2, 3]),
        (BOXES[:1], [1]),
        ({"hits": BOXES > 1, "boxes": BOXES.long()}, [1, 3, 4]),
    ],
    ids=["one", "parts", "pixels", "both", "(batch, 1)", "a batch of one", "integers"],
)
def test_a_samples_loss_is_the_sum_of_its_parts_each_a_mean_over_further_axes(losses, each):
    assert PartsLoss("none")(losses).tolist() == each
    assert PartsLoss("sum")(losses).item() == sum(each)
    assert PartsLoss()(losses).item() == pytest.approx(sum(each) / len(each))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_16_bits_are_added_in_32(dtype):
    total = PartsLoss("none")({"a": torch.ones(2, dtype=dtype), "b": torch.full((2, 9), 2.0**-9, dtype=dtype)})
    assert total.dtype == torch.float32
    assert total.tolist() == [1 + 2.0**-9] * 2


def test_losses_of_64_bits_stay_such():
    assert PartsLoss()(BOXES.double()).dtype == torch.float64


REDUCED = {
    "a part": {"boxes": BOXES, "classes": CLASSES.mean()},
    "all": {"classes": CLASSES.mean(), "boxes": BOXES.sum()},
}


@pytest.mark.parametrize("losses", REDUCED.values(), ids=REDUCED)
@pytest.mark.parametrize("hooked", [False, True])
def test_a_part_that_is_reduced_over_the_batch_is_named_with_the_way_out(losses, hooked):
    criterion = PartsLoss()
    given = {"rows": torch.arange(3)} if hooked else {}
    with pytest.raises(
        InvalidValue, match=r"'classes' is one number for the whole batch, .*unreduced.*default_collate"
    ):
        (LossHook(criterion, make_store(Loss())) if hooked else criterion)(losses, **given)


@pytest.mark.parametrize("hooked", [False, True])
def test_a_loss_that_is_reduced_over_the_batch_is_refused(hooked):
    criterion = PartsLoss()
    given = {"rows": torch.arange(3)} if hooked else {}
    with pytest.raises(InvalidValue, match="the input is one number for the whole batch"):
        (LossHook(criterion, make_store(Loss())) if hooked else criterion)(BOXES.mean(), **given)


class Reducing(nn.Module):
    """Gives the losses of a batch as detection models do: already reduced."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, inputs, targets):
        error = self.scale * torch.stack(inputs) - torch.stack(targets)
        return {"square": error.square().mean(), "absolute": error.abs().mean()}


def test_the_line_that_the_error_for_reduced_losses_gives_records_each_samples_loss():
    model, store = Reducing(), make_store(Loss())
    inputs, targets = list(torch.arange(3.0)), list(torch.ones(3))
    with pytest.raises(InvalidValue, match="one number") as raised:
        LossHook(PartsLoss(), store)(model(inputs, targets), rows=torch.arange(3))
    line = str(raised.value).split("at a time: ")[1].rstrip(".")
    losses = eval(line, {"torch": torch, "model": model, "inputs": inputs, "targets": targets})
    value = LossHook(PartsLoss(), store)(losses, rows=torch.arange(3))
    assert store["loss"][:3].tolist() == [1 + 1, 1 + 1, 9 + 3]
    value.backward()
    by_one_number, model.scale.grad = model.scale.grad, None
    sum(model(inputs, targets).values()).backward()  # of a model without batch statistics the mean is that of the batch
    torch.testing.assert_close(by_one_number, model.scale.grad)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ({}, r"a dict without losses: the model gave none. Is it in training mode, model.train\(\)\?"),
        ({"boxes": BOXES, "name": "x"}, "the losses 'name' are a str: a tensor"),
        ({"boxes": BOXES, "number": 3.0}, "the losses 'number' are a float"),
        ([BOXES, CLASSES], "the losses 'loss' are a list"),
        (
            {"boxes": BOXES, "anchors": torch.ones(7)},
            "an entry for each sample of the batch, and 'boxes' has 3, 'anchors' has 7",
        ),
    ],
)
def test_what_are_no_losses_of_samples_is_refused(losses, words):
    with pytest.raises(InvalidValue, match=words):
        PartsLoss()(losses)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(InvalidValue, match="reduction='average': one of 'mean', 'sum', 'none'"):
        PartsLoss("average")


def watched(policy, reduction):
    """A hook with a sampler of `policy`, and its loader of two batches of 12."""
    store = make_store(Loss())
    store.fold("loss", np.arange(N), np.linspace(0.5, 1.5, N))
    sampler = AdaptiveSampler(store, policy, shuffle=False)
    data = TensorDataset(torch.linspace(-1, 1, 3 * N).view(N, 3))
    loader = DataLoader(IndexedDataset(data, store), batch_size=12, sampler=sampler)
    return LossHook(PartsLoss(reduction), store, sampler=sampler), loader


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_hook_weighs_each_samples_loss_over_the_number_of_samples_and_records_it_unweighted(reduction):
    hook, loader = watched(Weigh("loss", "linear"), reduction)
    leaf, weights = torch.ones(3, requires_grad=True), torch.linspace(0.5, 1.5, N)
    losses = []
    for k, (inputs,) in enumerate(hook.watch(loader)):
        parts = {"square": (inputs * leaf).square(), "first": (inputs * leaf)[:, 0].abs()}
        each = parts["square"].mean(1) + parts["first"]
        losses.append(each.detach())
        weighted = weights[12 * k : 12 * k + 12] * each
        expected = {"mean": weighted.sum() / 12, "sum": weighted.sum(), "none": weighted}[reduction]
        torch.testing.assert_close(hook(parts), expected)
    np.testing.assert_allclose(hook.store["loss"], torch.cat(losses).numpy(), rtol=1e-6)
    assert hook.effective_samples == pytest.approx(float(weights.sum() ** 2 / (weights**2).sum()), rel=1e-5)


@pytest.mark.parametrize("losses", [{"boxes": BOXES}, PIXELS], ids=["parts", "tensor"])
@pytest.mark.parametrize("score", [EL2N(), Entropy()], ids=["el2n", "entropy"])
def test_losses_are_not_taken_for_the_logits_of_a_score(score, losses):
    hook = LossHook(PartsLoss(), make_store(score, Loss()))
    with pytest.raises(
        InvalidValue, match=r"takes softmax\(logits\), .*what PartsLoss is called with is no such logits"
    ):
        hook(losses, rows=torch.arange(3))
