"""All gradient scores of layers that others build on, against plain autograd on one sample at a time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from adaptive_sampler.torch import alignment, grand, l2rw_weights
from adaptive_sampler.torch.gradients.functional import cross_entropy
from adaptive_sampler.torch.gradients.influence import influence
from tests.references import gradients_alone, influence_from_gradients, l2rw_from_gradients
from tests.torch.gradients.lossy import softened

torch.set_num_threads(1)
DAMPING = 20.0


class LoRA(nn.Module):
    """A frozen Linear and an update of low rank beside it, as adapters have it."""

    def __init__(self, base: nn.Linear, rank: int = 2, soft: bool = False) -> None:
        super().__init__()
        self.base, self.soft = base.requires_grad_(False), soft
        self.A = nn.Parameter(torch.randn(rank, base.in_features) / 4)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        low = inputs @ self.A.mT
        return self.base(inputs) + (softened(low) if self.soft else low) @ self.B.mT


class Recurrent(nn.Module):
    """A recurrent layer, batch first or second, and its last step's logits."""

    def __init__(self, layer: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.layer = layer(4, 3, **options)
        self.head = nn.Linear(3 * (1 + self.layer.bidirectional), 5)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.layer.batch_first:
            return self.head(self.layer(inputs)[0][:, -1])
        return self.head(self.layer(inputs.transpose(0, 1))[0][-1])


class Packed(nn.Module):
    """An LSTM over sequences of their own lengths, which torch sorts and packs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.layer, self.head = nn.Linear(4, 4), nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        lengths = 1 + (inputs[:, 0, 0] * 7).floor().long() % inputs.shape[1]
        packed = nn.utils.rnn.pack_padded_sequence(self.inner(inputs), lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.layer(packed)[1][0][-1])


class Attending(nn.Module):
    """Scaled dot-product attention by torch's own function, causal."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed, self.head = nn.Linear(4, 12), nn.Linear(4, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        q, k, v = (part[:, None] for part in self.mixed(inputs).chunk(3, -1))
        return self.head(F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, 0].mean(1))


class Positions(nn.Module):
    """A table of positions, added with a leading axis of one."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.inner, self.head = nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        places = torch.arange(inputs.shape[1])[None]
        return self.head(torch.tanh(self.inner(inputs + self.positions(places))).mean(1))


def adapted(soft: bool) -> nn.Module:
    return nn.Sequential(nn.Flatten(), LoRA(nn.Linear(12, 6), soft=soft), nn.Tanh(), LoRA(nn.Linear(6, 5)))


def compiled_inside() -> nn.Module:
    inner = torch.compile(nn.Sequential(nn.Linear(4, 6), nn.Tanh()), backend="eager")
    return nn.Sequential(inner, nn.Flatten(), nn.Linear(18, 5))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Recurrent(nn.LSTM, batch_first=True),
    "lstm, two ways": lambda: Recurrent(nn.LSTM, bidirectional=True),
    "gru": lambda: Recurrent(nn.GRU, batch_first=True),
    "gru, sequence first": lambda: Recurrent(nn.GRU),
    "packed lstm": Packed,
    "attention": Attending,
    "positions": Positions,
    "lora": lambda: adapted(soft=False),
    "lora with a custom operator": lambda: adapted(soft=True),
    "compiled layer": compiled_inside,
}
# said by test_lost_tangents; and torch gives cuDNN's and the CPU's recurrent layers no forward mode of their own
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*lost the tangent without raising", "ignore:.*no forward-mode derivative"
)


def data(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    inputs = torch.randn(size, 3, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(5, (size,), generator=generator)


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().double().eval()


def reference(model: nn.Module, size: int) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return gradients_alone(model, cross_entropy, *data(size))


def agrees(model: nn.Module, size: int) -> None:
    rows, clean = reference(model, size), reference(model, 3)
    direction = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    close = {"rtol": 1e-8, "atol": 1e-10}
    torch.testing.assert_close(grand(model, *data(size)), rows.norm(dim=1), **close)
    torch.testing.assert_close(alignment(model, *data(size), direction), rows @ direction, **close)
    found = l2rw_weights(model, *data(size), *data(3))
    torch.testing.assert_close(found, l2rw_from_gradients(rows, clean), **close)


@pytest.mark.parametrize("size", [1, 4, 16])
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_each_sample_alone(name: str, size: int) -> None:
    agrees(made(name), size)


@pytest.mark.parametrize("size", [1, 4, 16])
@pytest.mark.parametrize("name", MODELS)
def test_influence_is_by_each_samples_gradient_alone(name: str, size: int) -> None:
    model = made(name)
    rows, clean = reference(model, size), reference(model, 3)
    with sdpa_kernel(SDPBackend.MATH):
        wanted = influence_from_gradients(model, cross_entropy, *data(size), rows, clean, DAMPING)
    found = influence(model, [data(size)], [data(3)], damping=DAMPING)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_scores_do_not_depend_on_the_callers_attention(backend: SDPBackend) -> None:
    """The two that torch has on a CPU; the fused one has neither forward mode nor a second derivative."""
    model = made("attention")
    with sdpa_kernel(backend):
        model(data(4)[0])
        agrees(model, 4)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_scores_of_a_compiled_model_are_those_of_each_sample_alone(backend: str) -> None:
    model = made("positions")
    compiled = torch.compile(model, backend=backend)
    compiled(data(4)[0])
    rows = reference(model, 4)
    torch.testing.assert_close(grand(compiled, *data(4)), rows.norm(dim=1), rtol=1e-10, atol=0)
    torch.testing.assert_close(alignment(compiled, *data(4), rows[0]), rows @ rows[0], rtol=1e-10, atol=0)


@pytest.mark.parametrize("soft", [False, True])
def test_an_adapter_is_scored_right_before_and_after_its_first_step(soft: bool) -> None:
    model = made("lora with a custom operator" if soft else "lora")
    agrees(model, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.full_like(parameter, 0.1) * parameter.requires_grad
    agrees(model, 4)
