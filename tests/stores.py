"""Stores with given scores: the start of every test of selection and sampling."""

from typing import Any

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Loss


def scored(values: Any, *, epochs: Any = 0, name: str = "loss", n: int | None = None) -> ScoreStore:
    """A store whose score `name` has these values: NaN stays unobserved; `epochs`: when each row was last seen."""
    values = np.asarray(values, np.float32)
    store = ScoreStore.create(None, n or len(values), [Loss(name=name)])
    epochs = np.broadcast_to(epochs, len(values))
    for epoch in np.unique(epochs):
        rows = np.flatnonzero((epochs == epoch) & np.isfinite(values))
        store.fold(name, rows, values[rows], epoch=int(epoch))
    return store
