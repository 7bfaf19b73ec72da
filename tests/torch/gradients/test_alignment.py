"""Facts about `alignment`: per-sample ⟨∇ℓ_i, v⟩ by one forward-mode pass."""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.gradients.alignment import _warned, alignment
from adaptive_sampler.torch.gradients.functional import cross_entropy
from tests.references import gradients_one_by_one
from tests.torch.gradients.models import MODELS, made

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_operator_warned_of_yet() -> None:
    _warned.clear()


def direction_for(model: nn.Module) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in model.parameters() if p.requires_grad]


def flattened(direction: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in direction])


@pytest.mark.filterwarnings("ignore:.*no forward-mode derivative")
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", MODELS)
def test_is_each_samples_gradient_times_the_direction(name: str, mode: str) -> None:
    model, inputs, labels = made(name)
    model.train(mode == "train")
    direction = direction_for(model)
    found = alignment(model, inputs, labels, direction)
    wanted = gradients_one_by_one(model, cross_entropy, inputs, labels) @ flattened(direction)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_the_worked_regression_gives_the_worked_products() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.ones_(model.weight)
    inputs = torch.tensor([[1.0], [2.0], [-1.0], [0.0]], dtype=torch.float64)
    labels = torch.tensor([0.0, 3.0, -3.0, 5.0], dtype=torch.float64)
    toward = torch.tensor([[-0.25]], dtype=torch.float64)
    found = alignment(model, inputs, labels, [toward], loss_fn=lambda out, y: (out[:, 0] - y) ** 2 / 2)
    assert found.tolist() == [-0.25, 0.5, 0.5, 0.0]


def test_a_direction_may_come_by_name_in_order_or_flat() -> None:
    model, inputs, labels = made("tied")
    parts = direction_for(model)
    by_name = dict(zip(dict(model.named_parameters()), parts, strict=True))
    found = [alignment(model, inputs, labels, d) for d in (parts, by_name, flattened(parts))]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_missing_name_or_none_counts_as_zero() -> None:
    model, inputs, labels = made("tied")
    parts = direction_for(model)
    names = list(dict(model.named_parameters()))
    only_last = alignment(model, inputs, labels, {names[-1]: parts[-1]})
    nones: list[Tensor | None] = [None] * (len(parts) - 1)
    assert torch.equal(only_last, alignment(model, inputs, labels, [*nones, parts[-1]]))
    zeros = [torch.zeros_like(p) for p in parts[:-1]]
    assert torch.equal(only_last, alignment(model, inputs, labels, [*zeros, parts[-1]]))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_mode_buffers_grads_and_random_state_are_left_as_found() -> None:
    model, inputs, labels = made("convolutional")
    model[1].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    alignment(model, inputs, labels, direction_for(model))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[3].weight.grad is None


class Square(torch.autograd.Function):
    """x², without forward mode, with a backward that can be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class OnceSquare(Square):
    """The same with a backward that refuses to be differentiated."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class DetachingSquare(Square):
    """The same with a backward whose derivative would silently be wrong."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient.detach()


class Custom(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.first, self.dropout, self.head = nn.Linear(6, 5), nn.Dropout(0.3), nn.Linear(5, 11)
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.function.apply(self.dropout(self.first(inputs))))


@pytest.mark.parametrize("function", [Square, OnceSquare, DetachingSquare])
def test_a_custom_function_without_forward_mode_gives_equal_values(function: Any) -> None:
    _, inputs, labels = made("branching")
    model = Custom(function).double()
    direction = direction_for(model)
    with pytest.warns(UserWarning, match=f"^{function.__name__} has no forward-mode derivative"):
        found = alignment(model, inputs, labels, direction)
    wanted = gradients_one_by_one(model, cross_entropy, inputs, labels) @ flattened(direction)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_the_warning_comes_once_per_operator() -> None:
    _, inputs, labels = made("branching")
    model = Custom(Square).double()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            alignment(model, inputs, labels, direction_for(model))
    assert len(seen) == 1


def test_an_operator_of_torch_without_forward_mode_is_named() -> None:
    model = nn.Linear(6, 2, dtype=torch.float64)
    _, inputs, _ = made("branching")

    def loss_fn(out: Tensor, image: Tensor) -> Tensor:
        return F.grid_sample(image, out[:, None, None], align_corners=False).flatten()

    image = torch.randn(7, 1, 4, 4, dtype=torch.float64)
    direction = direction_for(model)
    with pytest.warns(UserWarning, match="^grid_sampler_2d has no forward-mode derivative"):
        found = alignment(model, inputs, image, direction, loss_fn=loss_fn)
    wanted = gradients_one_by_one(model, loss_fn, inputs, image) @ flattened(direction)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_the_users_own_not_implemented_error_is_not_swallowed() -> None:
    def loss_fn(out: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError("write me")

    model, inputs, labels = made("branching")
    with pytest.raises(NotImplementedError, match="write me"):
        alignment(model, inputs, labels, direction_for(model), loss_fn=loss_fn)


def test_inputs_may_be_a_tuple_or_keywords() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 11)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.head(left * right)

    torch.manual_seed(0)
    model, (_, inputs, labels) = Two().double(), made("branching")
    direction = direction_for(model)
    paired = alignment(model, (inputs, inputs + 1), labels, direction)
    assert torch.equal(paired, alignment(model, {"right": inputs + 1, "left": inputs}, labels, direction))
    assert torch.equal(paired, alignment(model.head, inputs * (inputs + 1), labels, direction))


@pytest.mark.parametrize("how", ["function", "in place"])
def test_a_compiled_model_gives_what_the_plain_one_gives(how: str) -> None:
    model, inputs, labels = made("tied")
    wanted = alignment(model, inputs, labels, direction_for(model))
    if how == "in place":
        model.compile(backend="eager")
    compiled = torch.compile(model, backend="eager") if how == "function" else model
    compiled(inputs)
    assert torch.equal(alignment(compiled, inputs, labels, direction_for(model)), wanted)


def test_a_caller_without_gradients_gets_the_same() -> None:
    model, inputs, labels = made("tied")
    wanted = alignment(model, inputs, labels, direction_for(model))
    with torch.no_grad():
        assert torch.equal(alignment(model, inputs, labels, direction_for(model)), wanted)


@pytest.mark.parametrize("how", ["bfloat16 model", "autocast"])
def test_half_precision_gives_the_same_up_to_its_rounding(how: str) -> None:
    model, inputs, labels = made("attention")
    model = model.eval().float()
    wanted = alignment(model, inputs, labels, direction_for(model))
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            found = alignment(model, inputs, labels, direction_for(model))
    else:
        direction = direction_for(model)
        found = alignment(model.bfloat16(), inputs, labels, direction)
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 0.05 * wanted.norm()


def test_a_model_without_trainable_parameters_is_refused() -> None:
    model, inputs, labels = made("branching")
    with pytest.raises(InvalidValue, match=r"Branching has no trainable parameters.*requires_grad_"):
        alignment(model.requires_grad_(False), inputs, labels, [])


def test_a_loss_that_is_not_per_sample_is_refused() -> None:
    model, inputs, labels = made("branching")
    with pytest.raises(InvalidValue, match=r"loss_fn gave \(\) for a batch of 7.*reduction='none'"):
        alignment(model, inputs, labels, direction_for(model), loss_fn=nn.CrossEntropyLoss())


@pytest.mark.parametrize("label", [11, -1])
def test_a_label_beyond_the_classes_is_refused(label: int) -> None:
    model, inputs, labels = made("branching")
    labels[3] = label
    with pytest.raises(InvalidValue, match=f"label {label} at position 3 is beyond the model's 11 classes"):
        alignment(model, inputs, labels, direction_for(model))


@pytest.mark.parametrize("label", [10, 0, -100])
def test_the_last_class_and_the_ignored_one_are_taken(label: int) -> None:
    model, inputs, labels = made("branching")
    labels[3] = label
    found = alignment(model, inputs, labels, direction_for(model))
    assert bool(found[3] == 0) == (label == -100)


def test_a_nan_input_is_named_by_its_position() -> None:
    model, inputs, labels = made("branching")
    inputs[2, 0] = float("nan")
    with pytest.raises(InvalidValue, match="at position 2 is nan: gradients must be finite"):
        alignment(model, inputs, labels, direction_for(model))


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ({"nose": torch.zeros(6)}, "direction names 'nose', which is no trainable parameter: use one of"),
        ([torch.zeros(6)], "direction has 1 tensors for 3 trainable parameters"),
        (torch.zeros(5), r"direction has shape \(5,\).*must be flat, \(83,\)"),
        ({"scale": torch.zeros(5)}, r"direction for 'scale' has shape \(5,\): it must be \(6,\)"),
    ],
)
def test_a_direction_that_does_not_fit_is_refused(direction: Any, words: str) -> None:
    model, inputs, labels = made("branching")
    with pytest.raises(InvalidValue, match=words):
        alignment(model, inputs, labels, direction)
