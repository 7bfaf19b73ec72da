"""What a user would write in NumPy."""

import numpy as np

from adaptive_sampler.commands.bench.base import Turn
from adaptive_sampler.commands.bench.data import losses


def argpartition(n: int, distinct: int) -> Turn:
    """The rows of the top half, by a partition."""
    values = losses(n, distinct)
    return lambda: np.argpartition(values, n // 2)[n // 2 :]


def argsort(n: int, distinct: int) -> Turn:
    """The rows of the top half, by a sort."""
    values = losses(n, distinct)
    return lambda: np.argsort(values)[n // 2 :]


def choice(n: int, replacement: bool) -> Turn:
    """Weighted draws as one array."""
    weights = losses(n).astype(np.float64)
    weights /= weights.sum()
    rng = np.random.default_rng(0)
    return lambda: rng.choice(n, n if replacement else n // 2, replace=replacement, p=weights)
