"""Small models, one for each structure that per-sample gradients must survive."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tied(nn.Module):
    """An embedding that is also the decoder, and a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=0)
        self.hidden = nn.Linear(6, 6)
        self.decoder = nn.Linear(6, 11, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.decoder(self.hidden(torch.tanh(self.hidden(self.embedding(tokens))))).mean(1)


class Functional(nn.Module):
    """A parameter of its own, and a layer's weight used outside its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.scale = nn.Parameter(torch.randn(6))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear((self.embedding(tokens) * self.scale).mean(1), self.embedding.weight)


class Attention(nn.Module):
    """A transformer layer; sequence first, where a batch of 7 sequences of length 7 hides the batch axis."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embedding = nn.Embedding(11, 6)
        self.layer = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.2, batch_first=batch_first)
        self.head = nn.Linear(6, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embedding(tokens)
        if self.batch_first:
            return self.head(self.layer(embedded).mean(1))
        return self.head(self.layer(embedded.transpose(0, 1)).mean(0))


class Recurrent(nn.Module):
    """An LSTM over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.head = nn.Linear(5, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0][:, -1])


class Branching(nn.Module):
    """Control flow on values, which vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(6))
        self.head = nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs * self.scale
        return self.head(hidden.tanh() if hidden.abs().max().item() < 1e9 else hidden)


class Mixing(nn.Module):
    """Each sample is centred by the batch's mean, also in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs - inputs.mean(0) / 2)


def convolutional() -> nn.Module:
    """Strided, dilated, grouped, circular and 'same' convolutions, batch and group norm, in-place activation, dropout."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1, dilation=2, groups=2, padding_mode="circular"),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, (3, 1), padding="same", bias=False),
        nn.GroupNorm(2, 6),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(96, 11),
    )


def images() -> Tensor:
    """(7, 2, 9, 9) float64."""
    return torch.randn(7, 2, 9, 9, dtype=torch.float64)


def vectors() -> Tensor:
    """(7, 6) float64."""
    return torch.randn(7, 6, dtype=torch.float64)


def tokens() -> Tensor:
    """(7, 7) int64 below 11, padding among them."""
    return torch.randint(11, (7, 7))


def with_frozen() -> nn.Module:
    """A convolutional net whose first layer and second weight are frozen."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(100, 11)
    )
    model[0].requires_grad_(False)
    model[2].weight.requires_grad_(False)
    return model


MODELS = {
    "convolutional": (convolutional, images),
    "frozen": (with_frozen, images),
    "1d": (
        lambda: nn.Sequential(nn.Conv1d(7, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(16, 11)),
        lambda: images()[:, 0, :7, :6],
    ),
    "3d": (
        lambda: nn.Sequential(nn.Conv3d(1, 3, 2), nn.Flatten(), nn.Linear(48, 11)),
        lambda: images()[:, None, :, :5, :5],
    ),
    "weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.LayerNorm(5), nn.RMSNorm(5), nn.Linear(5, 11)
        ),
        vectors,
    ),
    "tied": (Tied, tokens),
    "by frequency": (
        lambda: nn.Sequential(nn.Embedding(11, 6, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(42, 11)),
        tokens,
    ),
    "functional": (Functional, tokens),
    "attention": (lambda: Attention(True), tokens),
    "sequence first": (lambda: Attention(False), tokens),
    "recurrent": (Recurrent, tokens),
    "branching": (Branching, vectors),
}
"""name -> (model, inputs); every model gives 11 logits."""


def made(name: str, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """(float64 model, 7 inputs, 7 labels), the same at each call."""
    torch.manual_seed(seed)
    model, inputs = MODELS[name]
    return model().double(), inputs(), torch.randint(11, (7,))
