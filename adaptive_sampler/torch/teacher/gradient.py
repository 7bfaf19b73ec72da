"""REINFORCE's gradient of an episode, summed while the episode runs, in memory that does not grow with it."""

import torch
from torch import Tensor, nn


class Gradient:
    """Σ_t v_t · ∇ ln π(a_t | s_t) of one episode, with v_t = Σ_(k ≥ t) γ^(k − t) · (r_k − b_k) (Williams 1992).

    The parameters stay the same during an episode, so the sum can be made as it goes: `trace`, Σ_t γ^(now − t) ∇ ln π(a_t | s_t),
    is what a reward that comes now is multiplied by, and `sum` is what all rewards have made of it so far (the eligibility
    trace of Baxter & Bartlett 2001). Both are flat vectors, (parameters,) float32, on the CPU. `acts`: how many steps it is of.
    """

    def __init__(self, policy: nn.Module) -> None:
        self._policy = policy
        self.begin()

    def begin(self) -> None:
        """Forget the episode."""
        size = sum(p.numel() for p in self._policy.parameters())
        nothing = torch.zeros(size, dtype=torch.float32, device="cpu")  # whatever torch's defaults are
        self.trace, self.sum, self.acts = nothing, nothing, 0  # no tensor is changed in place: states hold these

    def act(self, log_probability: Tensor, discount: float) -> None:
        """A step with this ln π(a | s), a scalar with gradient; the steps before count `discount` times what they did, γ."""
        parts = torch.autograd.grad(log_probability, list(self._policy.parameters()))
        self.trace = discount * self.trace + torch.cat([part.flatten().to("cpu", torch.float32) for part in parts])
        self.acts += 1

    def reward(self, advantage: float) -> None:
        """A reward less its baseline, for all steps so far."""
        self.sum = self.sum + advantage * self.trace
