"""A scoring pass leaves the weights as it found them, also where a forward pass of the model rewrites them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch import alignment, grand, grand_last_layer, l2rw_weights
from adaptive_sampler.torch.gradients.functional import cross_entropy
from adaptive_sampler.torch.gradients.influence import influence
from tests.references import gradients_one_by_one

torch.set_num_threads(1)


class Words(nn.Module):
    """The mean of embeddings whose rows are cut to a norm when they are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(10, 6, max_norm=0.5), nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.words(inputs)).mean(1))


class Bags(nn.Module):
    """The same by one operator."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(10, 6, max_norm=0.5), nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.words(inputs)))


class OfItsOwn(Words):
    """The same by a function, out of sight."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.table = nn.Identity(), nn.Parameter(torch.randn(10, 6))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(F.embedding(inputs, self.table, max_norm=0.5)).mean(1))


def made(kind: type[nn.Module] = Words) -> Any:
    torch.manual_seed(0)
    return kind().double().eval()


def data(size: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    return torch.randint(10, (size, 3), generator=generator), torch.randint(11, (size,), generator=generator)


def ones(model: nn.Module) -> Tensor:
    return torch.ones(sum(p.numel() for p in model.parameters() if p.requires_grad), dtype=torch.float64)


SCORES: dict[str, Callable[[nn.Module], Tensor]] = {
    "grand": lambda model: grand(model, *data()),
    "grand_last_layer": lambda model: grand_last_layer(model, *data()),
    "alignment": lambda model: alignment(model, *data(), ones(model)),
    "l2rw_weights": lambda model: l2rw_weights(model, *data(), *data(5)),
    "influence": lambda model: influence(model, [data()], [data(5)], damping=20.0),
}
quiet = pytest.mark.filterwarnings("ignore:.* has no forward-mode derivative", "ignore:forward mode through")


@quiet
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", [Words, Bags])
@pytest.mark.parametrize("score", SCORES)
def test_an_embedding_with_a_max_norm_is_left_as_it_was(score: str, kind: type[nn.Module], frozen: bool) -> None:
    if (score, kind, frozen) == ("influence", Bags, False):
        pytest.skip("torch has no second derivative of a bag")
    model = made(kind)
    model.words.weight.requires_grad_(not frozen)
    before = model.words.weight.detach().clone()
    SCORES[score](model)
    assert torch.equal(model.words.weight, before)


def test_it_is_left_as_it_was_where_the_pass_fails() -> None:
    model = made()
    before = model.words.weight.detach().clone()
    with pytest.raises(InvalidValue, match="beyond the model's 11 classes"):
        grand(model, data()[0], torch.full((7,), 11))
    assert torch.equal(model.words.weight, before)


@quiet
@pytest.mark.parametrize("kind", [Words, Bags])
def test_its_scores_are_those_of_the_rows_as_they_are_looked_up(kind: type[nn.Module]) -> None:
    model, twin = made(kind), made(kind)
    gradients = gradients_one_by_one(twin, cross_entropy, *data())
    torch.testing.assert_close(grand(model, *data()), gradients.norm(dim=1))
    torch.testing.assert_close(alignment(model, *data(), ones(model)), gradients @ ones(model))


@pytest.mark.parametrize("score", ["grand", "l2rw_weights", "influence"])
@quiet
def test_a_model_that_writes_in_a_parameter_is_refused_by_its_name(score: str) -> None:
    with pytest.raises(InvalidValue, match=r"writes in its parameter 'table'.*after optimizer\.step\(\)"):
        SCORES[score](made(OfItsOwn))


def test_the_remedies_are_right() -> None:
    model = made(OfItsOwn)
    wanted = gradients_one_by_one(made(OfItsOwn), cross_entropy, *data()).norm(dim=1)
    model.words = nn.Embedding.from_pretrained(model.table.detach().clone(), freeze=False, max_norm=0.5)
    del model.table
    model.forward = lambda inputs: Words.forward(model, inputs)
    torch.testing.assert_close(grand(model, *data()), wanted)
    model.words.max_norm = None
    with torch.no_grad():  # after optimizer.step()
        model.words.weight.renorm_(2, 0, 0.5)
    torch.testing.assert_close(grand(model, *data()), wanted)
