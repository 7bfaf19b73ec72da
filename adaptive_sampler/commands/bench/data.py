"""What contestants work on: the same scores, weights and labels for each of them."""

import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.scoring import Loss
from adaptive_sampler.store import ScoreStore

CLASSES = 10
_PART = 1 << 22  # rows made at a time, so that temporary arrays do not count as a contestant's memory


def drain(iterable: Iterable[Any]) -> None:
    """Consume everything, as a training loop does."""
    for _ in iterable:
        pass


def losses(n: int, distinct: int = 0) -> NDArray[np.float32]:
    """(n,) float32: log-normal, or with `distinct` whole numbers from 0 to distinct − 1."""
    values = np.empty(n, np.float32)
    for rows, some in _parts(n, distinct):
        values[rows] = some
    return values


def labels(n: int) -> NDArray[np.int64]:
    """(n,) int64 classes in [0, CLASSES): each has 0.7 times the rows of the one before, the last has the rest."""
    rng = np.random.default_rng(1)
    return np.minimum(rng.geometric(0.3, n) - 1, CLASSES - 1)


def scored(n: int, *, distinct: int = 0) -> ScoreStore:
    """A store of `n` rows that has observed `losses` as its loss."""
    store = ScoreStore.create(tempfile.mkdtemp() + "/s", n, [Loss()])
    for rows, some in _parts(n, distinct):
        store.fold("loss", np.arange(rows.start, rows.stop), some)
    return store


def kept_half(n: int) -> NDArray[np.int64]:
    """The rows with the higher half of the losses, as a user would compute them."""
    return np.argpartition(losses(n), n // 2)[n // 2 :]


def _parts(n: int, distinct: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    rng = np.random.default_rng(0)
    for start in range(0, n, _PART):
        m = min(_PART, n - start)
        values = rng.integers(0, distinct, m) if distinct else rng.lognormal(size=m)
        yield slice(start, start + m), values.astype(np.float32)
