"""Embeddings whose gradients are sparse are scored as those whose gradients are dense."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch import L2RWLoss, alignment, grand, l2rw_weights
from adaptive_sampler.torch.gradients.influence import influence

torch.set_num_threads(1)


class Functional(nn.Module):
    """A table of one's own, looked up by the function."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.sparse, self.table = sparse, nn.Parameter(torch.randn(9, 4))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.table, sparse=self.sparse).mean(1)


class Mean(nn.Module):
    """nn.Embedding's rows, of which padding's takes no gradient."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4, padding_idx=0, sparse=sparse)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens).mean(1)


TABLES: dict[str, Callable[[bool], nn.Module]] = {
    "embedding": Mean,
    "function": Functional,
    "bag, sum": lambda sparse: nn.EmbeddingBag(9, 4, mode="sum", sparse=sparse),
    "bag, mean": lambda sparse: nn.EmbeddingBag(9, 4, mode="mean", sparse=sparse),
}


def made(name: str, sparse: bool) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(TABLES[name](sparse), nn.Tanh(), nn.Linear(4, 3)).double()


def data(size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    return torch.randint(9, (size, 5), generator=generator), torch.randint(3, (size,), generator=generator)


SCORES: dict[str, Callable[[nn.Module], Tensor]] = {
    "grand": lambda model: grand(model, *data()),
    "alignment": lambda model: alignment(model, *data(), torch.linspace(-1, 1, 51, dtype=torch.float64)),
    "l2rw_weights": lambda model: l2rw_weights(model, *data(), *data(3)),
    "L2RWLoss": lambda model: L2RWLoss(model, [data(3)])(*data()),
    "influence": lambda model: influence(model, [data()], [data(3)], damping=1.0),
}


@pytest.mark.filterwarnings("ignore:.* has no forward-mode derivative")
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("name", TABLES)
def test_a_sparse_table_is_scored_as_the_dense_one(name: str, score: str) -> None:
    if score == "influence" and name.startswith("bag"):
        pytest.skip("torch has no second derivative of a bag, dense or sparse: the next test")
    torch.testing.assert_close(
        SCORES[score](made(name, True)), SCORES[score](made(name, False)), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("sparse", [True, False])
def test_the_influence_of_a_bag_is_refused_by_name(sparse: bool) -> None:
    with pytest.raises(InvalidValue, match=r"the loss has no second derivative.*_embedding_bag_backward"):
        SCORES["influence"](made("bag, sum", sparse))


def test_the_layer_stays_sparse_for_its_optimizer() -> None:
    model: Any = made("embedding", True)
    l2rw_weights(model, *data(), *data(3))
    L2RWLoss(model, [data(3)])(*data()).backward()
    assert model[0].embedding.weight.grad.is_sparse
