"""Models through which forward mode does not give the derivative that backward gives, and says nothing."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


@torch.library.custom_op("adaptive_sampler_tests::softened", mutates_args=())
def softened(inputs: Tensor) -> Tensor:
    return inputs / (1 + inputs.abs())


softened.register_autograd(
    lambda ctx, g: g / (1 + ctx.saved_tensors[0].abs()) ** 2,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


class Net(nn.Module):
    """Two layers with something between them."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.dropout, self.head = nn.Linear(6, 5), nn.Dropout(0.3), nn.Linear(5, 11)
        self.between = between

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.between(self.dropout(self.first(inputs))))


class Branches(nn.Module):
    """A plain branch, and beside it a weak one that has the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.weak, self.head = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.plain(inputs)) + softened(self.weak(inputs)) / 20)


class Adapter(nn.Module):
    """A frozen layer and an adapter with the operator within, whose second half is zero before the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.down, self.up = nn.Linear(6, 11), nn.Linear(6, 2, bias=False), nn.Linear(2, 11, bias=False)
        self.frozen.requires_grad_(False)
        nn.init.zeros_(self.up.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.frozen(inputs) + self.up(softened(self.down(inputs)))


class Stopping(nn.Module):
    """Uses a layer twice, once under no_grad: backward stops there, and forward mode does not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            gate = self.layer(inputs).sigmoid()
        return self.head(torch.tanh(self.layer(inputs)) * gate)


class ByMode(nn.Module):
    """Has the operator in training mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 5), nn.Linear(5, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layer(inputs)
        return self.head(softened(hidden) if self.training else torch.tanh(hidden))


class Block(nn.Module):
    """A residual block around an activation."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm, self.wide, self.back = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.activation = activation

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.back(self.activation(self.wide(self.norm(inputs))))
