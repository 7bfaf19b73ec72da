"""What has no gradient of a sample's own is refused by name, by every gradient score."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch import alignment, grand, grand_last_layer, l2rw_weights
from adaptive_sampler.torch.gradients.influence import influence

torch.set_num_threads(1)

SCORES: dict[str, Callable[[nn.Module, Tensor, Tensor], Any]] = {
    "grand": grand,
    "grand_last_layer": grand_last_layer,
    "alignment": lambda model, x, y: alignment(model, x, y, {}),
    "l2rw_weights": lambda model, x, y: l2rw_weights(model, x, y, x, y),
    "influence": lambda model, x, y: influence(model, [(x, y)], [(x, y)], damping=10.0),
}


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Tanh(), nn.Linear(5, 5)), nn.Linear(5, 3))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 4, generator=generator), torch.randint(3, (6,), generator=generator)


def scripted(module: nn.Module, how: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of scripting itself
        return torch.jit.script(module) if how == "script" else torch.jit.trace(module, torch.randn(2, 5))


def quantised(model: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of quantisation itself
        return torch.ao.quantization.quantize_dynamic(model, {"1.1"}, torch.qint8)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_module_of_torchscript_is_named_and_the_one_it_came_from_is_scored(how: str, score: str) -> None:
    model = plain()
    inner = model[1]
    model[1] = scripted(inner, how)
    with pytest.raises(InvalidValue, match=r"'1' is a \w+ of TorchScript.*score with the one that it was scripted"):
        SCORES[score](model, *data())
    model[1] = inner
    assert torch.isfinite(SCORES[score](model, *data())).all()


@pytest.mark.parametrize("score", SCORES)
def test_a_whole_model_of_torchscript_is_named(score: str) -> None:
    with pytest.raises(InvalidValue, match="the model is a RecursiveScriptModule of TorchScript"):
        SCORES[score](scripted(plain(), "script"), *data())


@pytest.mark.parametrize("score", SCORES)
def test_a_dynamically_quantised_layer_is_named_and_the_one_it_came_from_is_scored(score: str) -> None:
    model = plain()
    small = quantised(model)
    with pytest.raises(
        InvalidValue, match=r"'1.1' is a Linear, dynamically quantised.*score with the model that it was"
    ):
        SCORES[score](small, *data())
    assert torch.isfinite(SCORES[score](model, *data())).all()


@pytest.mark.parametrize("score", SCORES)
def test_a_quantised_recurrent_layer_is_named(score: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of quantisation itself
        layer = torch.ao.nn.quantized.dynamic.GRU(4, 4)
    with pytest.raises(InvalidValue, match="'0' is a GRU, dynamically quantised by the range of its whole batch"):
        SCORES[score](nn.Sequential(layer, nn.Linear(4, 3)), *data())
