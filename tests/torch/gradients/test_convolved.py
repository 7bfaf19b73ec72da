"""Facts about the norms of convolutions: each way gives those of the gradients that autograd forms, sample by sample."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptive_sampler.torch.gradients.convolved import Convolved

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")
LAYERS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
WAYS: dict[str, Callable[[Convolved], Tensor]] = {
    "the cheapest": Convolved.squares,
    "products of patches, or formed at once": lambda part: part.outer().squares(),
    "products of pixels": Convolved.by_pixels,
    "formed a few at a time": Convolved.by_forming,
    "whole": lambda part: part.whole().square().sum(1),
}


def by_autograd(layer: nn.Module, images: Tensor, slopes: Tensor) -> Tensor:
    """(batch,) squared norms of the kernel's gradient, of each sample alone."""
    found = []
    for image, slope in zip(images, slopes, strict=True):
        (gradient,) = torch.autograd.grad((layer(image[None])[0] * slope).sum(), [layer.weight])
        found.append(gradient.square().sum())
    return torch.stack(found)


def part_of(layer: nn.Module, images: Tensor) -> tuple[Convolved, Tensor]:
    """The part of a layer for random slopes of its output, and the squared norms wanted of it."""
    slopes = torch.randn_like(layer(images)).detach()
    return Convolved(layer, images, slopes), by_autograd(layer, images, slopes)


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A convolution of 1 to 3 axes in float64, and a batch that it takes."""
    dims, groups, batch = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    each = st.tuples(*[st.integers(1, 3)] * dims)
    stride, dilation = draw(each), draw(each)
    padding = draw(st.sampled_from(["valid", "same", 0, 1, 2]))
    into, out = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    torch.manual_seed(draw(st.integers(0, 9)))
    layer = LAYERS[dims](
        into,
        out,
        draw(each),
        stride=1 if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "circular", "reflect", "replicate"])),
    )
    sides = draw(st.tuples(*[st.integers(7, 8)] * dims))  # of 7 or more, which any of these kernels fits
    return layer.double(), torch.randn(batch, into, *sides, dtype=torch.float64)


@pytest.mark.parametrize("way", WAYS)
@given(drawn=layers())
def test_each_way_gives_the_norms_of_the_gradients(way: str, drawn: tuple[nn.Module, Tensor]) -> None:
    part, wanted = part_of(*drawn)
    torch.testing.assert_close(WAYS[way](part), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 5, 40])
def test_formed_gradients_are_counted_however_few_are_formed_at_once(batch: int) -> None:
    """Of these, of 288 KiB, three are formed at once."""
    part, wanted = part_of(nn.Conv2d(64, 64, 3).double(), torch.randn(batch, 64, 4, 4, dtype=torch.float64))
    torch.testing.assert_close(part.by_forming(), wanted, rtol=1e-9, atol=0)


def called(part: Convolved, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way that `squares` takes."""
    taken = []
    for name in ("outer", "by_pixels", "by_forming"):
        own = getattr(Convolved, name)
        monkeypatch.setattr(Convolved, name, lambda part, own=own, name=name: taken.append(name) or own(part))
    part.squares()
    return taken[0]


@pytest.mark.parametrize(
    ("layer", "side", "wanted"),
    [
        (nn.Conv2d(3, 64, 7, stride=2), 40, "by_forming"),
        (nn.Conv2d(64, 64, 3, padding=1), 8, "by_pixels"),
        (nn.Conv2d(32, 32, 1), 4, "outer"),
    ],
    ids=["large images", "small images", "single pixels"],
)
def test_the_way_with_the_fewest_multiplications_is_taken(
    layer: nn.Conv2d, side: int, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, norms = part_of(layer, torch.randn(2, layer.in_channels, side, side))
    torch.testing.assert_close(part.squares(), norms, rtol=1e-4, atol=0)
    assert called(part, monkeypatch) == wanted
