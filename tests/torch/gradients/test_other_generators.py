"""Models that draw from Python's `random` or from `np.random`: the scoring pass draws what the caller's next pass will."""

import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptive_sampler.torch import alignment, grand, l2rw_weights
from adaptive_sampler.torch.gradients.functional import cross_entropy
from tests.references import gradients_one_by_one

torch.set_num_threads(1)
DRAWS = pytest.mark.parametrize("draw", [random.random, np.random.random], ids=["random", "np.random"])


class LayerDrop(nn.Module):
    """Leaves a block out half the time, in training mode."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.first, self.block, self.head = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 11)
        self.draw, self.drawn = draw, list[float]()

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        if self.training:
            self.drawn.append(self.draw())
            hidden = hidden + self.block(hidden) if self.drawn[-1] > 0.5 else hidden
        return self.head(torch.tanh(hidden))


def made(draw: Callable[[], float], seed: int) -> LayerDrop:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global one is meant
    return LayerDrop(draw).double()


def data() -> tuple[Tensor, Tensor]:
    return torch.randn(7, 6, dtype=torch.float64), torch.randint(11, (7,))


@DRAWS
@pytest.mark.parametrize("seed", range(4))
def test_alignments_are_those_of_the_callers_next_pass_and_nothing_is_warned_of(
    draw: Callable[[], float], seed: int
) -> None:
    model, batch = made(draw, seed), data()
    direction = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = alignment(model, *batch, direction)
    torch.testing.assert_close(found, gradients_one_by_one(model, cross_entropy, *batch) @ direction)


@DRAWS
@pytest.mark.parametrize("score", [grand, lambda model, *batch: l2rw_weights(model, *batch, *data())])
def test_the_callers_draws_go_on_as_without_scoring(score: Callable[..., Tensor], draw: Callable[[], float]) -> None:
    model, batch = made(draw, 0), data()
    score(model, *batch)
    found = draw()
    made(draw, 0)
    assert found == draw()


@DRAWS
def test_the_clean_pass_of_l2rw_draws_its_own(draw: Callable[[], float]) -> None:
    model = made(draw, 0)
    l2rw_weights(model, *data(), *data())
    clean, *own = model.drawn
    assert clean not in own
    assert len(set(own)) == 1
