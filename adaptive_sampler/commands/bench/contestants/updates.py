"""Updates of six scores, batch after batch: the batches, and the update as a good user would write it in NumPy."""

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.commands.bench.base import Turn

NAMES = ("el2n", "forgetting", "loss", "margin", "confidence", "error")
BATCHES, VALUES = 2000, 8


def observations(n: int, size: int) -> list[tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]]:
    """The batches: (rows (size,) int64, score name -> values (size,) float32). No row occurs twice in a batch.

    VALUES sets of values take turns, so that they are in the processor's cache, as values are that a training step has
    just computed. The rows are random.
    """
    rng = np.random.default_rng(0)
    size = min(size, n)
    values = [{name: rng.integers(0, 2, size).astype(np.float32) for name in NAMES} for _ in range(VALUES)]
    return [(rng.choice(n, size, replace=False, shuffle=False), values[i % VALUES]) for i in range(BATCHES)]


def numpy(n: int, size: int) -> Turn:
    """Update the same six columns with their counts and epochs, with the same checks, by fancy indexing."""
    value = {name: np.zeros(n, np.float32) for name in NAMES}
    count, seen = np.zeros(n, np.uint32), np.full(n, -1, np.int32)
    events, right = np.zeros(n, np.uint32), np.zeros(n, np.bool_)
    batches = observations(n, size)

    def turn() -> None:
        for rows, values in batches:
            if rows.min() < 0 or rows.max() >= n or not all(np.isfinite(v).all() for v in values.values()):
                raise ValueError
            times = count[rows] + 1
            count[rows] = times
            seen[rows] = 1
            for name in ("el2n", "margin", "confidence"):
                old = value[name][rows]
                value[name][rows] = old + (values[name] - old) / times
            for name in ("loss", "error"):
                value[name][rows] = values[name]
            correct = values["forgetting"] == 0
            events[rows] += right[rows] & ~correct
            right[rows] = correct

    return turn
