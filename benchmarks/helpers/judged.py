"""The models whose samples' gradients are measured: a small convolutional net, a ResNet-18, a transformer; and their batches."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.helpers.resnet import resnet

CLASSES, TOKENS, WORDS, WIDTH, HEADS, LAYERS = 10, 64, 1000, 128, 4, 4


def conv_net() -> nn.Module:
    """A small net for 32 × 32 images: four convolutions with batch norm and a head, 0.4 million parameters."""
    torch.manual_seed(0)
    widths = ((3, 32, 2), (32, 64, 2), (64, 128, 2), (128, 256, 1))
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
        for a, b, stride in widths
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, CLASSES))


class Layer(nn.Module):
    """A layer of a transformer, norms first, of linear layers alone, so that every library can take its gradients apart."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.asked, self.joined = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same shape."""
        batch, tokens, _ = x.shape
        query, key, value = self.asked(self.before(x)).view(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        share = (query @ key.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5).softmax(-1)
        x = x + self.joined((share @ value).transpose(1, 2).reshape(batch, tokens, WIDTH))
        return x + self.wide(self.between(x))


class Transformer(nn.Module):
    """Four layers and a head on the mean of the tokens, 0.9 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layers = nn.Embedding(WORDS, WIDTH), nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens) int64 -> (batch, classes)."""
        found: Tensor = self.head(self.layers(self.words(x)).mean(1))
        return found


def transformer() -> nn.Module:
    """The same one each time."""
    torch.manual_seed(0)
    return Transformer()


def resnet_18() -> nn.Module:
    """The same one each time."""
    torch.manual_seed(0)
    return resnet(64, CLASSES)


@dataclass(frozen=True)
class Judged:
    """A model and its samples. `part`: one of so many samples is taken, because each takes long. `least`: how many times as fast as
    vmap(grad) GraNd is to be at equal memory. `ghosts`: whether opacus' ghost norms can take it, which has no batch norm."""

    model: Callable[[], nn.Module]
    side: int | None
    part: int
    least: float
    ghosts: bool = False

    def batch(self, samples: int, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Random images, (samples, 3, side, side) float32, or tokens, (samples, tokens) int64; and labels, (samples,) int64."""
        generator = torch.Generator().manual_seed(seed)
        if self.side is None:
            inputs = torch.randint(WORDS, (samples, TOKENS), generator=generator)
        else:
            inputs = torch.randn(samples, 3, self.side, self.side, generator=generator)
        return inputs.to(device), torch.randint(CLASSES, (samples,), generator=generator).to(device)


CONV = Judged(conv_net, 32, 1, 6.0)
MODELS = {
    "conv net": CONV,
    "ResNet-18, 64 × 64": Judged(resnet_18, 64, 16, 4.0),
    "transformer, 4 layers": Judged(transformer, None, 4, 3.0, ghosts=True),
}
GHOSTS = 1.2  # how many times as fast as opacus' ghost norms GraNd is to be
