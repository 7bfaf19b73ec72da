"""Updates of six scores, batch after batch: the batches, and the update as a good user would write it in NumPy."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.commands.bench.base import Turn

NAMES = ("el2n", "forgetting", "loss", "margin", "confidence", "error")
BATCHES, VALUES = 2000, 8
OUTPUTS = 200  # batches of logits

Values = Mapping[str, NDArray[np.float32]]


def observations(n: int, size: int) -> list[tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]]:
    """The batches: (rows (size,) int64, score name -> values (size,) float32). No row occurs twice in a batch.

    VALUES sets of values take turns, so that they are in the processor's cache, as values are that a training step has
    just computed. The rows are random.
    """
    rng = np.random.default_rng(0)
    size = min(size, n)
    values = [{name: rng.integers(0, 2, size).astype(np.float32) for name in NAMES} for _ in range(VALUES)]
    return [(rng.choice(n, size, replace=False, shuffle=False), values[i % VALUES]) for i in range(BATCHES)]


def outputs(n: int, size: int, classes: int) -> tuple[list[NDArray[np.int64]], NDArray[np.float32], NDArray[np.int64]]:
    """The rows of each batch, (size,) int64, random and none twice; logits (size, classes) and labels (size,) of all of them.

    Those are the same for each batch, so that they are as near to the processor as those that a step has just computed.
    """
    rng = np.random.default_rng(0)
    size = min(size, n)
    rows = [rng.choice(n, size, replace=False, shuffle=False) for _ in range(OUTPUTS)]
    return rows, rng.normal(0, 3, (size, classes)).astype(np.float32), rng.integers(0, classes, size)


def numpy(n: int, size: int) -> Turn:
    """Fold the same values into the same six columns."""
    fold, batches = _folding(n), observations(n, size)

    def turn() -> None:
        for rows, values in batches:
            fold(rows, values)

    return turn


def numpy_outputs(n: int, size: int, classes: int) -> Turn:
    """Measure the same logits and fold the values into the same six columns."""
    fold, (batches, logits, labels) = _folding(n), outputs(n, size, classes)

    def turn() -> None:
        for rows in batches:
            fold(rows, _measured(logits, labels))

    return turn


def _folding(n: int) -> Callable[[NDArray[np.int64], Values], None]:
    """A function that updates six columns with their counts and epochs, with the checks of a store, by fancy indexing."""
    value = {name: np.zeros(n, np.float32) for name in NAMES}
    count, seen = np.zeros(n, np.uint32), np.full(n, -1, np.int32)
    events, right = np.zeros(n, np.uint32), np.zeros(n, np.bool_)

    def fold(rows: NDArray[np.int64], values: Values) -> None:
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

    return fold


def _measured(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Values:
    """The six scores of a batch, (size,) each, from one softmax."""
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError
    places = np.arange(len(labels))
    own = logits[places, labels]
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1)
    p /= total[:, None]
    confidence = p[places, labels]
    p[places, labels] -= 1
    others = logits.copy()
    others[places, labels] = -np.inf
    wrong = (logits.argmax(axis=1) != labels).astype(np.float32)
    return {
        "el2n": np.sqrt(np.einsum("ij,ij->i", p, p)),
        "forgetting": wrong,
        "loss": np.log(total) - shifted[places, labels],
        "margin": own - others.max(axis=1),
        "confidence": confidence,
        "error": wrong,
    }
