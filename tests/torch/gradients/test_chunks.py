"""Facts about how many samples `grand` runs at once if it is not told."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_sampler.torch.gradients import formed_norms
from adaptive_sampler.torch.gradients.functional import cross_entropy
from adaptive_sampler.torch.gradients.grand import grand, grand_last_layer
from tests.references import grand_one_by_one
from tests.torch.gradients.models import Functional, Mixing

torch.set_num_threads(1)


class Watched(nn.Module):
    """A linear layer that notes how many samples it is given; for each of them, `copies` numbers are put out on the way."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.head, self.copies, self.lengths = nn.Linear(6, 11).double(), copies, []

    def forward(self, inputs: Tensor) -> Tensor:
        self.lengths.append(len(inputs))
        scale = inputs[:, :1].repeat(1, self.copies).mean(1, keepdim=True)
        return self.head(inputs * scale)


SMALL, LARGE = 1, 40_000  # LARGE: 320 kB a sample, and 40 MiB of 128


def batch(samples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(11, (samples,), generator=generator)
    return torch.randn(samples, 6, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize("score", [grand, grand_last_layer])
def test_all_samples_of_a_small_model_run_at_once(score: Any) -> None:
    model = Watched(SMALL)
    score(model, *batch(5000))
    assert max(model.lengths) == 5000


@pytest.mark.parametrize("score", [grand, grand_last_layer])
def test_of_a_large_model_128_run_at_once(score: Any) -> None:
    model = Watched(LARGE)
    score(model, *batch(300))
    assert max(model.lengths) == 128


def test_between_them_as_many_run_as_fit_32_mib() -> None:
    model = Watched(10_000)
    grand(model, *batch(1000))
    assert 400 < max(model.lengths) <= 2**25 // 80_000


@pytest.mark.parametrize("copies", [SMALL, LARGE])
@pytest.mark.parametrize("samples", [1, 2, 3, 130, 258, 259])
def test_no_chunk_is_as_long_as_what_is_run_first(samples: int, copies: int) -> None:
    model = Watched(copies)
    grand(model, *batch(samples))
    assert model.lengths[0] not in model.lengths[1:]


@pytest.mark.parametrize("model", [Watched(LARGE), Mixing().double()], ids=["large", "mixing"])
def test_values_are_those_of_each_sample_alone(model: nn.Module) -> None:
    inputs, labels = batch(131)
    wanted = grand_one_by_one(model, cross_entropy, inputs, labels)
    torch.testing.assert_close(grand(model, inputs, labels), wanted, rtol=1e-9, atol=1e-12)


def test_gradients_of_no_more_than_128_samples_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, by_vmap = [], formed_norms._by_vmap

    def watched(*given: Any) -> Tensor:
        lengths.append(len(given[3]))
        return by_vmap(*given)

    monkeypatch.setattr(formed_norms, "_by_vmap", watched)
    model, (_, labels) = Functional().double(), batch(300)
    tokens = torch.randint(11, (300, 4), generator=torch.Generator().manual_seed(0))
    found = grand(model, tokens, labels, chunk_size=300)
    assert set(lengths) == {128, 44}
    torch.testing.assert_close(found, grand(model, tokens, labels, chunk_size=10), rtol=1e-9, atol=0)
