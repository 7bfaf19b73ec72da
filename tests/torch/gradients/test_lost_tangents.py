"""Operators through which forward mode loses a derivative without raising: alignments are right, and say so once."""

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_sampler.torch import alignment, grand, l2rw_weights
from adaptive_sampler.torch.gradients.functional import cross_entropy
from adaptive_sampler.torch.gradients.influence import influence
from tests.references import gradients_one_by_one, influence_from_gradients, l2rw_from_gradients
from tests.torch.gradients.lossy import Adapter, Block, Branches, ByMode, Net, Stopping, softened

torch.set_num_threads(1)
SAYS = "does not give the gradient that backward gives: an operator lost the tangent without raising"


MODELS: dict[str, Callable[[], nn.Module]] = {
    "whole": lambda: Net(softened),
    "one of two branches": Branches,
    "adapter": Adapter,
    "no_grad inside": Stopping,
}


def data(size: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, 6, generator=generator, dtype=torch.float64), torch.randint(
        11, (size,), generator=generator
    )


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().double().eval()


def direction_for(model: nn.Module) -> Tensor:
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def agrees(model: nn.Module, direction: Tensor, loss_fn: Any = cross_entropy) -> None:
    found = alignment(model, *data(), direction, loss_fn=loss_fn)
    wanted = gradients_one_by_one(model, loss_fn, *data()) @ direction
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


class Counted:
    """An activation that counts the model's passes."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        self.activation, self.passes = activation, 0

    def __call__(self, inputs: Tensor) -> Tensor:
        self.passes += 1
        return self.activation(inputs)


@pytest.mark.parametrize("name", MODELS)
def test_alignment_is_backwards_derivative_and_says_what_happened(name: str) -> None:
    model = made(name)
    with pytest.warns(UserWarning, match=SAYS):
        agrees(model, direction_for(model))


@pytest.mark.parametrize("name", MODELS)
def test_l2rw_weighs_by_backwards_derivative(name: str) -> None:
    model = made(name)
    with pytest.warns(UserWarning, match=SAYS):
        found = l2rw_weights(model, *data(), *data(5))
    rows, clean = (gradients_one_by_one(model, cross_entropy, *data(size)) for size in (7, 5))
    torch.testing.assert_close(found, l2rw_from_gradients(rows, clean), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_influence_is_by_backwards_derivative(name: str) -> None:
    model = made(name)
    with pytest.warns(UserWarning, match=SAYS):
        found = influence(model, [data()], [data(5)], damping=20.0)
    gradients = [gradients_one_by_one(model, cross_entropy, *data(size)) for size in (7, 5)]
    wanted = influence_from_gradients(model, cross_entropy, *data(), *gradients, damping=20.0)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-10)


def chunked(out: Tensor, labels: Tensor) -> Tensor:
    """torch's own cross entropy of a linear layer in chunks, whose docs say that it has no forward mode."""
    eye = torch.eye(11, dtype=out.dtype)
    options = nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(out, eye, labels, reduction="none", options=options)


def test_torchs_chunked_cross_entropy_gives_what_the_plain_one_gives() -> None:
    model = made("whole")
    model.between = torch.tanh
    direction = direction_for(model)
    wanted = alignment(model, *data(), direction)
    with pytest.warns(UserWarning, match=SAYS):
        found = alignment(model, *data(), direction, loss_fn=chunked)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_grand_through_torchs_chunked_cross_entropy_is_that_of_the_plain_one() -> None:
    model = made("whole")
    torch.testing.assert_close(grand(model, *data(), loss_fn=chunked), grand(model, *data()), rtol=1e-10, atol=0)


def passes(activation: Callable[[Tensor], Tensor], calls: int = 3) -> list[int]:
    """The model's passes of each call."""
    model = made("whole")
    model.between = counted = Counted(activation)
    found = []
    for _ in range(calls):
        before = counted.passes
        alignment(model, *data(), direction_for(model))
        found.append(counted.passes - before)
    return found


def test_the_warning_comes_once_and_forward_mode_is_not_tried_again() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert passes(softened) == [3, 1, 1]
    assert len(seen) == 1


def test_where_forward_mode_is_right_it_is_asked_at_powers_of_two() -> None:
    assert passes(torch.tanh, calls=9) == [3, 3, 1, 3, 1, 1, 1, 3, 1]


@pytest.mark.parametrize("name", ["whole", "one of two branches", "adapter"])
def test_a_first_direction_that_is_zero_proves_nothing(name: str) -> None:
    model = made(name)
    direction = direction_for(model)
    head = torch.zeros_like(direction)
    head[-5:] = 1
    with pytest.warns(UserWarning, match=SAYS):
        alignment(model, *data(), torch.zeros_like(direction))
    agrees(model, head)
    agrees(model, direction)


def test_a_first_batch_without_a_gradient_proves_nothing() -> None:
    model = made("whole")
    inputs, labels = data()
    ignored = alignment(model, inputs, torch.full_like(labels, -100), direction_for(model))
    assert ignored.tolist() == [0] * 7
    with pytest.warns(UserWarning, match=SAYS):
        agrees(model, direction_for(model))


def test_a_first_step_from_zero_proves_nothing() -> None:
    """Before it an adapter's first half has no gradient, so that nothing seems lost."""
    model = made("adapter")
    direction = direction_for(model)
    with pytest.warns(UserWarning, match=SAYS):
        agrees(model, direction)
    nn.init.normal_(model.get_submodule("up").weight)
    agrees(model, direction)


def test_each_mode_is_asked_for_itself() -> None:
    torch.manual_seed(0)
    model = ByMode().double().eval()
    agrees(model, direction_for(model))
    model.train()
    with pytest.warns(UserWarning, match=SAYS):
        agrees(model, direction_for(model))


def test_each_loss_function_is_asked_for_itself() -> None:
    model = made("whole")
    model.between = torch.tanh
    agrees(model, direction_for(model))

    def lossy(out: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(softened(out), labels)

    with pytest.warns(UserWarning, match=SAYS):
        agrees(model, direction_for(model), lossy)


def test_the_same_lambda_in_a_loop_is_the_same_function() -> None:
    model = made("whole")
    model.between = counted = Counted(torch.tanh)
    for scale in torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64):
        alignment(model, *data(), direction_for(model), loss_fn=lambda z, y: scale * cross_entropy(z, y))  # noqa: B023
    assert counted.passes == 3 + 3 + 1


def test_a_lambda_over_another_function_is_asked_about_anew() -> None:
    model = made("whole")
    model.between = torch.tanh

    def over(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda z, y: cross_entropy(activation(z), y)

    agrees(model, direction_for(model), over(torch.tanh))
    with pytest.warns(UserWarning, match=SAYS):
        agrees(model, direction_for(model), over(softened))


def test_a_layer_put_in_later_is_asked_about() -> None:
    class Soft(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return softened(inputs)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 11)).double()
    agrees(model, direction_for(model))
    model[1] = Soft()
    with pytest.warns(UserWarning, match=SAYS):
        agrees(model, direction_for(model))


def test_dropout_draws_the_masks_of_the_callers_next_pass() -> None:
    model = made("whole").train()
    direction = direction_for(model)
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match=SAYS):
        found = alignment(model, *data(), direction)
    assert torch.equal(torch.get_rng_state(), state)
    wanted = gradients_one_by_one(model, cross_entropy, *data()) @ direction
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_dropout_does_not_make_forward_mode_seem_wrong() -> None:
    model = made("whole").train()
    model.between = torch.tanh
    direction = direction_for(model)
    found = alignment(model, *data(), direction)
    wanted = gradients_one_by_one(model, cross_entropy, *data()) @ direction
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_neither_the_model_nor_the_loss_is_kept_alive() -> None:
    model = made("whole")
    model.between = torch.tanh

    class Owner:
        def __init__(self, model: nn.Module) -> None:
            self.model = model

        def loss(self, out: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(out, labels)

    owner = Owner(model)
    alignment(model, *data(), direction_for(model), loss_fn=owner.loss)
    grand(model, *data(), loss_fn=owner.loss)
    seen = weakref.ref(model), weakref.ref(owner)
    del model, owner
    gc.collect()
    assert [ref() for ref in seen] == [None, None]


def test_inputs_made_in_inference_mode_are_taken() -> None:
    model = made("whole")
    model.between = torch.tanh
    inputs, labels = data()
    with torch.inference_mode():
        there = inputs + 0
    direction = direction_for(model)
    assert torch.equal(alignment(model, there, labels, direction), alignment(model, inputs, labels, direction))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_not_taken_for_a_lost_tangent(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(8) for layer in (nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU())]
    model = nn.Sequential(*layers, nn.Linear(16, 11)).to(dtype)
    inputs, labels = torch.randn(32, 16, dtype=dtype), torch.randint(11, (32,))
    direction = [torch.randn_like(p) for p in model.parameters()]
    assert torch.isfinite(alignment(model, inputs, labels, direction)).all()  # a warning would be an error


@pytest.mark.parametrize("how", ["float64", "float32", "bfloat16", "float16", "autocast"])
def test_one_block_of_many_is_seen_in_every_precision(how: str) -> None:
    torch.manual_seed(0)
    blocks = [Block(softened if number == 15 else F.gelu) for number in range(20)]
    dtype = torch.float32 if how == "autocast" else getattr(torch, how)
    model = nn.Sequential(*blocks, nn.Linear(16, 11)).to(dtype)
    inputs, labels = torch.randn(32, 16, dtype=dtype), torch.randint(11, (32,))
    direction = [torch.ones_like(p) for p in model.parameters()]
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"), pytest.warns(UserWarning, match=SAYS):
        alignment(model, inputs, labels, direction)
