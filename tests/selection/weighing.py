"""What the tests of `Weigh` share: the weights that a policy gives, and stores to take them of."""

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import (
    Weigh,
)
from tests.stores import scored

EXAMPLE = [0.5, 2.0, 1.0, 4.5]  # mean 2


def weights(policy, store, epoch=2, seed=0):
    return policy.plan(store, epoch=epoch, seed=seed).loss_weights


def of(values, how, **more):
    """The weights that `how` makes of these scores."""
    return weights(Weigh("loss", how, **more), scored(values))


def near(values, relative=1e-5):
    return pytest.approx(values, rel=relative, abs=1e-7)


def two_scores(first, second, names=("target", "proposal")):
    store = ScoreStore.create(None, len(first), [Loss(name=name) for name in names])
    for name, values in zip(names, (first, second), strict=True):
        rows = np.flatnonzero(~np.isnan(values))
        store.fold(name, rows, np.asarray(values, np.float32)[rows])
    return store
