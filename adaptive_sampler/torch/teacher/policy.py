"""The network that decides: its layers and first weights."""

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from adaptive_sampler import seeds


def policy(features: int, hidden: int, bias: float, seed: int) -> nn.Module:
    """(batch, features) -> (batch, 1), the logit of keeping; two layers with tanh between them, or one if `hidden` is 0.

    Weights are drawn from ±0.01 by `seed` and no other generator; biases are 0, that of the output is `bias`.
    """
    sizes = [features, hidden, 1] if hidden else [features, 1]
    with torch.random.fork_rng(devices=[]):  # torch draws first weights by its global generator; these are not used
        layers = [nn.Linear(a, b, dtype=torch.float32) for a, b in pairwise(sizes)]
    drawn = np.random.default_rng(seeds.key(seed, 0, seeds.Purpose.POLICY))
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(torch.from_numpy(drawn.uniform(-0.01, 0.01, tuple(layer.weight.shape))))
            layer.bias.zero_()
        layers[-1].bias.fill_(bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1]) if hidden else layers[0]
