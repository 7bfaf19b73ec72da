"""Stores from tables, as several tests make them."""

from typing import Any
from unittest.mock import patch

import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, EMA, Forgetting, Loss, Variability

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

N = 5
SCORES = [Loss(), Loss(name="average", fold=EMA()), EL2N(), Forgetting(), Variability(), Loss(name="key")]
QUALITY = {"quality": Loss(name="quality")}


def observed(batches: Any, keys: Any = None) -> ScoreStore:
    """A store that observed batches of (score, [(row, value)]), one in each epoch."""
    store = ScoreStore.create(None, N, SCORES, keys=keys, fingerprint="of the data")
    for epoch, (name, batch) in enumerate(batches):
        store.fold(name, [row for row, _ in batch], [value for _, value in batch], epoch=epoch)
    return store


def made(source: Any, scores: Any = None, **arguments: Any) -> ScoreStore:
    """A store from a table."""
    return ScoreStore.from_table(None, source, scores, **arguments)


def refused(words: str, source: Any, scores: Any = None, **arguments: Any) -> None:
    """See that no store is made of a table."""
    with pytest.raises(InvalidValue, match=words):
        made(source, scores, **arguments)


def quality(values: Any, keys: Any = None) -> Any:
    """A table with keys and a score."""
    return pa.table({"id": keys or [f"k{i}" for i in range(len(values))], "quality": values})


def at_once(lines: int) -> Any:
    """So many lines of a table are read at a time."""
    from adaptive_sampler.tables.arrow import sources

    return patch.object(sources, "AT_ONCE", lines)
