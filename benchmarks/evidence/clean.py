"""What a clean set is used for: the weights of L2RW at each step, and influence after a training."""

import warnings
from contextlib import suppress
from typing import Any

import numpy as np
from torch import nn

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import L2RW, Mean
from adaptive_sampler.torch import L2RWLoss, influence
from benchmarks.evidence.training import Images, Training, in_order, network

CG_STEPS = 10  # of influence, each a pass over the data


def reweighted(
    data: Images, everything: AdaptiveSampler, clean: Images, *, seed: int, epochs: int, pace: float
) -> tuple[nn.Module, np.ndarray]:
    """Train on everything by L2RW's weights -> the network, and (n,) means of each image's weights times the batch's size.

    A training whose gradients become infinite ends there, with the network as it is then; weights that it lacks are 0.
    """
    model, store = network(seed), ScoreStore.create(None, len(data), [L2RW(fold=Mean())])
    with suppress(InvalidValue):
        Training(data, everything, model, epochs, L2RWLoss(model, [clean[:]], store), pace=pace).fit()
    return model, np.nan_to_num(store["l2rw"])


def influence_on(model: nn.Module, data: Images, clean: Images, damping: float) -> np.ndarray:
    """(n,) the influence of each image on the clean ones. Conjugate gradients stop after CG_STEPS passes, without warning."""
    how: dict[str, Any] = {"damping": damping, "max_iterations": CG_STEPS, "tolerance": 0.05, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return influence(model, in_order(data), in_order(clean), **how).numpy()
