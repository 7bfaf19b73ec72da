"""Adam's steps up a gradient."""

import copy

import torch
from torch import Tensor, nn


class Ascent:
    """Adam in float32 on the CPU, made anew for each step from its state.

    An optimizer that lives on would hold parameters that `load_state_dict(assign=True)` has replaced, and moments of the device
    and precision that they had before `to`; in float16 it makes NaN, as its ε is 0 there. `state`: its `state_dict`; never changed
    in place, so that copies and checkpoints may hold it.
    """

    def __init__(self, policy: nn.Module, lr: float) -> None:
        self.state = torch.optim.Adam(_copies(policy), lr).state_dict()

    def step(self, policy: nn.Module, up: Tensor) -> None:
        """One step along `up`, (parameters,): the gradients of all parameters, flat and one after the other."""
        copies = _copies(policy)
        adam = torch.optim.Adam(copies)
        adam.load_state_dict(copy.deepcopy(self.state))
        for p, part in zip(copies, up.split_with_sizes([p.numel() for p in copies]), strict=True):
            p.grad = -part.view_as(p)  # Adam goes down, rewards go up
        adam.step()
        with torch.no_grad():
            for p, stepped in zip(policy.parameters(), copies, strict=True):
                p.copy_(stepped)
        self.state = adam.state_dict()


def _copies(policy: nn.Module) -> list[Tensor]:
    return [p.detach().to("cpu", torch.float32, copy=True) for p in policy.parameters()]
