"""Stores with given scores, with which tests of selection and sampling begin, and a fold of one's own."""

from typing import Any

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Column, Loss


def scored(values: Any, *, epochs: Any = 0, name: str = "loss", n: int | None = None) -> ScoreStore:
    """A store whose score `name` has these values; NaN leaves a row unobserved. `epochs`: when rows were last seen."""
    values = np.asarray(values, np.float32)
    store = ScoreStore.create(None, n or len(values), [Loss(name=name)])
    epochs = np.broadcast_to(epochs, len(values))
    for epoch in np.unique(epochs):
        rows = np.flatnonzero((epochs == epoch) & np.isfinite(values))
        store.fold(name, rows, values[rows], epoch=int(epoch))
    return store


class Lowest:
    """A fold of one's own: the lowest value of a row."""

    @property
    def columns(self):
        return {"value": Column("float32", np.inf)}

    def fold(self, state, rows, values, before):
        np.minimum.at(state["value"], rows, values)

    def read(self, state):
        return np.where(state["count"] > 0, state["value"], np.nan).astype(np.float32)

    def begin_run(self, state):
        pass
