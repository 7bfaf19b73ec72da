"""Facts about `grand`: the exact norm of each sample's gradient, whatever the batch."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.gradients.as_found import as_found
from adaptive_sampler.torch.gradients.functional import cross_entropy, trainable
from adaptive_sampler.torch.gradients.grand import grand, grand_last_layer
from adaptive_sampler.torch.gradients.norm_pass import ghost_squares
from adaptive_sampler.torch.gradients.norm_plan import batch_first
from benchmarks import gradients
from tests.references import grand_one_by_one
from tests.torch.gradients.models import MODELS, Mixing, Tied, made

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


@pytest.mark.parametrize("name", MODELS)
def test_is_the_norm_of_each_samples_gradient(name: str) -> None:
    model, inputs, labels = made(name)
    wanted = grand_one_by_one(model, cross_entropy, inputs, labels)
    torch.testing.assert_close(grand(model, inputs, labels), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("name", ["convolutional", "attention", "tied"])
def test_does_not_depend_on_how_the_data_are_cut(name: str, chunk_size: int) -> None:
    model, inputs, labels = made(name)
    wanted = grand(model, inputs, labels)
    torch.testing.assert_close(grand(model, inputs, labels, chunk_size=chunk_size), wanted, rtol=1e-12, atol=0)
    parts = [grand(model, inputs[i : i + 4], labels[i : i + 4]) for i in (0, 4)]
    torch.testing.assert_close(torch.cat(parts), wanted, rtol=1e-12, atol=0)


def loose(model: nn.Module, inputs: Tensor, labels: Tensor) -> list[str]:
    with as_found(model, evaluate=True):
        params = trainable(model)
        layers, _ = batch_first(model, params, inputs, labels, cross_entropy, chunk_size=128)
        return ghost_squares(model, params, layers, inputs, labels, cross_entropy)[2]


@pytest.mark.parametrize("name", ["convolutional", "frozen", "1d", "3d", "tied"])
def test_no_gradient_is_formed_where_every_layer_has_a_rule(name: str) -> None:
    assert loose(*made(name)) == []


def test_only_what_no_rule_covers_is_formed() -> None:
    assert loose(*made("functional")) == ["scale", "embedding.weight"]
    assert {name.split(".")[1] for name in loose(*made("attention"))} == {"self_attn"}


def test_a_layer_whose_leading_axis_is_not_the_batch_is_not_taken_for_one() -> None:
    """Seven sequences of length seven: the shapes alone would not tell."""
    names = loose(*made("sequence first"))
    assert "layer.linear1.weight" in names
    assert "head.weight" not in names


def test_the_worked_identity_holds_for_a_linear_head() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(4, 5), nn.Linear(5, 3)
    labels = torch.tensor([0, 1, 2, 0])
    probabilities = head(hidden).softmax(1)
    el2n = (probabilities - F.one_hot(labels, 3)).norm(dim=1)
    identity = (el2n * (hidden.square().sum(1) + 1).sqrt()).detach()
    torch.testing.assert_close(grand(head, hidden, labels), identity)
    torch.testing.assert_close(grand_last_layer(head, hidden, labels), identity)
    assert [round(float(v), 4) for v in identity] == [1.6968, 3.0412, 2.3654, 0.6722]


def test_last_layer_is_the_norm_over_the_head_alone() -> None:
    model, inputs, labels = made("convolutional")
    for parameter in list(model.parameters())[:-2]:
        parameter.requires_grad_(False)
    wanted = grand(model, inputs, labels)
    model.requires_grad_(True)
    torch.testing.assert_close(grand_last_layer(model, inputs, labels), wanted)
    torch.testing.assert_close(grand_last_layer(model, inputs, labels, layer=model[-1]), wanted)


def test_last_layer_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"Conv1d has no nn.Linear: name the head with layer=, or use grand"):
        grand_last_layer(nn.Conv1d(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, dtype=torch.int64))


def test_a_loss_of_ones_own_is_taken() -> None:
    model, inputs, _ = made("frozen")

    def loss_fn(out: Tensor, target: Tensor) -> Tensor:
        return (out - target).square().mean(1)

    target = torch.randn(7, 11, dtype=torch.float64)
    wanted = grand_one_by_one(model, loss_fn, inputs, target)
    torch.testing.assert_close(grand(model, inputs, target, loss_fn=loss_fn), wanted, rtol=1e-10, atol=0)


def test_a_model_that_mixes_samples_is_scored_one_sample_at_a_time() -> None:
    torch.manual_seed(0)
    model, (_, inputs, labels) = Mixing().double(), made("branching")
    wanted = grand_one_by_one(model, cross_entropy, inputs, labels)
    torch.testing.assert_close(grand(model, inputs, labels), wanted, rtol=1e-10, atol=0)


def test_batch_norm_is_in_eval_mode_and_all_is_left_as_found() -> None:
    model, inputs, labels = made("convolutional")
    model(inputs)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model[6].eval()
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    in_train = grand(model, inputs, labels)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(grand(model.eval(), inputs, labels), in_train)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


class Watched(nn.Module):
    """Remembers the batch sizes it has met."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.sizes = model, []

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        return self.model(inputs)


def test_the_model_never_sees_more_than_a_chunk() -> None:
    model, inputs, labels = made("convolutional")
    watched = Watched(model)
    grand(watched, inputs, labels, chunk_size=3)
    assert max(watched.sizes) == 3


def test_a_layer_called_without_gradients_adds_nothing() -> None:
    class Stopped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 11)

        def forward(self, inputs: Tensor) -> Tensor:
            with torch.no_grad():
                inputs = self.first(inputs)
            return self.head(self.second(inputs).detach())

    torch.manual_seed(0)
    model, (_, inputs, labels) = Stopped().double(), made("branching")
    wanted = grand(model.head, model.second(model.first(inputs)).detach(), labels)
    assert torch.equal(grand(model, inputs, labels), wanted)


def test_activation_checkpointing_changes_nothing() -> None:
    class Checkpointed(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.utils.checkpoint.checkpoint(self.model, inputs, use_reentrant=False)

    model, inputs, labels = made("frozen")
    torch.testing.assert_close(grand(Checkpointed(model), inputs, labels), grand(model, inputs, labels))


@pytest.mark.parametrize("how", ["function", "in place"])
def test_a_compiled_model_gives_what_the_plain_one_gives(how: str) -> None:
    model, inputs, labels = made("frozen")
    wanted = grand(model, inputs, labels)
    if how == "in place":
        model.compile(backend="eager")
    compiled = torch.compile(model, backend="eager") if how == "function" else model
    compiled(inputs)
    assert torch.equal(grand(compiled, inputs, labels), wanted)


@pytest.mark.parametrize("how", ["bfloat16 model", "autocast"])
@pytest.mark.parametrize("name", ["frozen", "1d", "attention", "tied"])
def test_half_precision_gives_the_same_up_to_its_rounding(how: str, name: str) -> None:
    model, inputs, labels = made(name)
    model = model.float()
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    wanted = grand(model, inputs, labels)
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            found = grand(model, inputs, labels)
    else:
        inputs = inputs.bfloat16() if inputs.is_floating_point() else inputs
        found = grand(model.bfloat16(), inputs, labels)
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 0.03 * wanted.norm()


def opacus_norms(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    pytest.importorskip("opacus")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # opacus's own, about torch
        from opacus.grad_sample import GradSampleModule

        wrapped = GradSampleModule(model.train(), loss_reduction="sum", strict=False)
        F.cross_entropy(wrapped(inputs), labels, reduction="sum").backward()
    squares = [p.grad_sample.flatten(1).square().sum(1) for p in wrapped.parameters() if p.requires_grad]
    return torch.stack(squares).sum(0).sqrt()


OPACUS = {
    "conv and group norm": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(100, 11)
    ),
    "layer norm": lambda: nn.Sequential(nn.Linear(9, 5), nn.LayerNorm(5), nn.Flatten(), nn.Linear(90, 11)),
    "grouped 1d": lambda: nn.Sequential(
        nn.Flatten(1, 2), nn.Conv1d(18, 6, 3, groups=3), nn.Flatten(), nn.Linear(42, 11)
    ),
    "embedding": lambda: nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 4), nn.Flatten(), nn.Linear(28, 11)),
}


@pytest.mark.parametrize("name", OPACUS)
def test_agrees_with_opacus(name: str) -> None:
    torch.manual_seed(0)
    model = OPACUS[name]().double()
    _, inputs, labels = made("tied" if name == "embedding" else "convolutional")
    found = grand(model, inputs, labels)
    torch.testing.assert_close(found, opacus_norms(model, inputs, labels), rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", gradients.MODELS)
def test_the_benchmarks_vmap_gives_the_same_norms(name: str) -> None:
    judged = gradients.MODELS[name]
    model, (inputs, labels) = judged.model().eval(), judged.batch(3, "cpu")
    wanted = grand(model, inputs, labels)
    torch.testing.assert_close(gradients.by_vmap(model, inputs, labels, chunk=2), wanted, rtol=1e-4, atol=0)


def test_the_benchmarks_memory_is_that_above_one_sample() -> None:
    assert gradients.memory("vmap(grad)", 2, gradients.CONV, samples=2, device="cpu") >= 0


def test_inputs_may_be_nested_and_labels_absent() -> None:
    class Auto(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)
            self.own = nn.Parameter(torch.ones(6))

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.layer(left) * self.own - right

    def loss_fn(out: Tensor, labels: None) -> Tensor:
        return out.square().sum(1)

    torch.manual_seed(0)
    model, (_, inputs, _) = Auto().double(), made("branching")
    found = grand(model, (inputs, inputs), None, loss_fn=loss_fn, chunk_size=4)
    assert torch.equal(found, grand(model, {"left": inputs, "right": inputs}, None, loss_fn=loss_fn, chunk_size=4))
    gradients = [
        torch.autograd.grad(loss_fn(model(x[None], x[None]), None)[0], list(model.parameters())) for x in inputs
    ]
    wanted = torch.stack([torch.cat([g.flatten() for g in sample]).norm() for sample in gradients])
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("model", "tracked"), [(nn.BatchNorm1d(6, track_running_stats=False), False), (nn.BatchNorm1d(6), True)]
)
def test_batch_norm_without_running_statistics_is_refused(model: nn.Module, tracked: bool) -> None:
    whole, inputs, labels = nn.Sequential(model, nn.Linear(6, 11)).double(), *made("branching")[1:]
    if tracked:
        assert grand(whole, inputs, labels).shape == (7,)
        return
    with pytest.raises(InvalidValue, match=r"'0' is batch norm without running statistics.*group norm"):
        grand(whole, inputs, labels)


def refused(words: str, **changed: Any) -> None:
    model, inputs, labels = made("branching")
    given = {"model": model, "inputs": inputs, "labels": labels, **changed}
    with pytest.raises(InvalidValue, match=words):
        grand(**given)


def test_bad_input_is_named() -> None:
    _, inputs, labels = made("branching")
    refused("has no trainable parameters", model=nn.Linear(6, 11).double().requires_grad_(False))
    refused(r"loss_fn gave \(\) for a batch of 2", loss_fn=nn.CrossEntropyLoss())
    refused("label 11 at position 4 is beyond the model's 11 classes", labels=torch.tensor([0, 1, 2, 3, 11, 5, 6]))
    refused("the batch is empty", inputs=inputs[:0], labels=labels[:0])
    refused(r"chunk_size=0: a whole number, 1 or more \(samples; 128 is usual\)", chunk_size=0)
    inputs[5] = np.inf
    refused("the gradient norm at position 5 is nan", inputs=inputs)


def test_a_tied_weight_is_counted_once_and_whole() -> None:
    """Squares of the two uses do not add: their gradients do."""
    model, inputs, labels = made("tied")
    assert isinstance(model, Tied)
    assert len(trainable(model)) == 3
    both = grand_one_by_one(model, cross_entropy, inputs, labels)
    model.decoder.weight = nn.Parameter(model.embedding.weight.detach().clone())
    apart = grand(model, inputs, labels)
    assert not torch.allclose(both, apart)
