"""Losses that use the model's own parameters: their part of the gradient counts, as in plain autograd."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch import L2RWLoss, alignment, grand, grand_last_layer, l2rw_weights
from adaptive_sampler.torch.gradients.functional import cross_entropy
from adaptive_sampler.torch.gradients.influence import influence
from tests.references import gradients_one_by_one, grand_one_by_one, influence_from_gradients, l2rw_from_gradients

torch.set_num_threads(1)
Loss = Callable[[Any, Any], Tensor]


class Body(nn.Module):
    """Leaves its head to the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), nn.Linear(5, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.tanh(self.body(inputs))


class TiedBody(Body):
    """Its decoder shares the weight of its encoder, and the loss takes the decoder's name of it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 11)
        self.encoder, self.back = nn.Linear(6, 11), nn.Linear(11, 6)
        self.head.weight = self.encoder.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.back(torch.tanh(self.encoder(inputs)))


class HeadLoss(nn.Module):
    """A loss that is a module and holds the model's head."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(self.head(hidden), labels)


def by_head(model: Any) -> Loss:
    return lambda hidden, labels: cross_entropy(model.head(hidden), labels)


def by_weight(model: Any) -> Loss:
    return lambda hidden, labels: cross_entropy(hidden @ model.head.weight.T, labels)


def with_decay(model: Any) -> Loss:
    def loss(hidden: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(model.head(hidden), labels) + sum(p.square().sum() for p in model.parameters()) / 10

    return loss


def by_module(model: Any) -> Loss:
    return HeadLoss(model.head)


def in_chunks(model: Any) -> Loss:
    options = nn.LinearCrossEntropyOptions()
    return lambda hidden, labels: F.linear_cross_entropy(
        hidden, model.head.weight, labels, reduction="none", options=options
    )


LOSSES = [by_head, by_weight, with_decay, by_module, in_chunks]
quiet = pytest.mark.filterwarnings("ignore:forward mode through")


def made(kind: type[nn.Module] = Body) -> Any:
    torch.manual_seed(0)
    return kind().double().eval()


def data(size: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    inputs = torch.randn(size, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(11, (size,), generator=generator)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss_of", LOSSES)
@pytest.mark.parametrize("kind", [Body, TiedBody])
def test_grand_counts_the_losss_parameters(kind: type[nn.Module], loss_of: Callable[[Any], Loss]) -> None:
    model = made(kind)
    close(grand(model, *data(), loss_fn=loss_of(model)), grand_one_by_one(model, loss_of(model), *data()))


@pytest.mark.parametrize("loss_of", LOSSES)
def test_grand_last_layer_counts_a_head_that_the_loss_calls(loss_of: Callable[[Any], Loss]) -> None:
    model = made()
    rows = gradients_one_by_one(model, loss_of(model), *data())
    head = sum(p.numel() for p in model.head.parameters())
    close(grand_last_layer(model, *data(), layer=model.head, loss_fn=loss_of(model)), rows[:, -head:].norm(dim=1))


@quiet
@pytest.mark.parametrize("loss_of", LOSSES)
@pytest.mark.parametrize("kind", [Body, TiedBody])
def test_alignment_counts_the_losss_parameters(kind: type[nn.Module], loss_of: Callable[[Any], Loss]) -> None:
    model = made(kind)
    direction = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    wanted = gradients_one_by_one(model, loss_of(model), *data()) @ direction
    close(alignment(model, *data(), direction, loss_fn=loss_of(model)), wanted)


@quiet
@pytest.mark.parametrize("loss_of", LOSSES)
def test_l2rw_counts_the_losss_parameters(loss_of: Callable[[Any], Loss]) -> None:
    model = made()
    gradients = [gradients_one_by_one(model, loss_of(model), *data(size)) for size in (7, 5)]
    close(l2rw_weights(model, *data(), *data(5), loss_fn=loss_of(model)), l2rw_from_gradients(*gradients))


def test_influence_counts_the_losss_parameters() -> None:
    model = made()
    gradients = [gradients_one_by_one(model, by_head(model), *data(size)) for size in (7, 5)]
    wanted = influence_from_gradients(model, by_head(model), *data(), *gradients, damping=20.0)
    close(influence(model, [data()], [data(5)], damping=20.0, loss_fn=by_head(model)), wanted)


def test_the_training_loss_of_l2rw_trains_the_head_that_its_loss_calls() -> None:
    model = made()
    L2RWLoss(model, [data(5)], loss_fn=by_head(model))(*data()).backward()
    assert bool(model.head.weight.grad.any())


def test_a_loss_that_uses_the_model_leaves_no_gradient_and_the_same_parameters() -> None:
    model = made()
    before = dict(model.named_parameters())
    grand(model, *data(), loss_fn=with_decay(model))
    assert all(p is before[name] and p.grad is None for name, p in model.named_parameters())


def captured(model: Any) -> Loss:
    weight = model.head.weight
    return lambda hidden, labels: cross_entropy(hidden @ weight.T, labels)


def test_grand_refuses_a_parameter_that_the_loss_has_kept_by_itself() -> None:
    model = made()
    with pytest.raises(InvalidValue, match=r"'head.weight' by a reference of its own.*as in model\.head\.weight"):
        grand(model, *data(), loss_fn=captured(model))


def test_alignment_refuses_a_parameter_that_the_loss_has_kept_by_itself() -> None:
    model = made()
    with pytest.raises(InvalidValue, match=r"'head.weight' by a reference of its own"):
        alignment(model, *data(), list(model.parameters()), loss_fn=captured(model))


def test_influence_refuses_a_parameter_that_the_loss_has_kept_by_itself() -> None:
    model = made()
    with pytest.raises(InvalidValue, match=r"'head.weight' by a reference of its own"):
        influence(model, [data()], [data(5)], loss_fn=captured(model))


def test_a_loss_with_learned_parameters_of_its_own_is_taken_as_it_is() -> None:
    model, learned = nn.Linear(6, 5).double(), HeadLoss(nn.Linear(5, 11).double())
    close(grand(model, *data(), loss_fn=learned), grand_one_by_one(model, learned, *data()))
