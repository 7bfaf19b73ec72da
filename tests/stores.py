"""Makes stores with given scores, with which the tests of selection and sampling begin."""

from typing import Any

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Loss


def scored(values: Any, *, epochs: Any = 0, name: str = "loss", n: int | None = None) -> ScoreStore:
    """A store whose score `name` has these values; NaN leaves a row unobserved. `epochs`: when rows were last seen."""
    values = np.asarray(values, np.float32)
    store = ScoreStore.create(None, n or len(values), [Loss(name=name)])
    epochs = np.broadcast_to(epochs, len(values))
    for epoch in np.unique(epochs):
        rows = np.flatnonzero((epochs == epoch) & np.isfinite(values))
        store.fold(name, rows, values[rows], epoch=int(epoch))
    return store
