"""Selection within each class: what a policy does to all rows, it does to the rows of each class separately."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue

# (rows, salt) -> which of the rows stay, as np.packbits(..., bitorder="little") packs it. `rows`: (m,) int64, or a slice
# for all rows.
Chosen = Callable[[Any, int], np.ndarray]


def as_labels(per_class: Any) -> np.ndarray | None:
    """`per_class` as an array on the host, (n,), or None.

    Raises `InvalidValue` if it has not exactly one axis, and for labels that are not of one kind, or NaN.
    """
    if per_class is None:
        return None
    labels = to_host(per_class)
    if labels.ndim != 1:
        raise InvalidValue(f"per_class has shape {labels.shape}: one label for each row, (n,), is needed. Flatten it.")
    if labels.dtype.hasobject:  # such as texts in a column of pandas
        kinds = sorted({type(label).__name__ for label in labels.tolist()})
        labels = np.array(labels.tolist()) if len(kinds) == 1 else labels
        if labels.dtype.hasobject or labels.ndim != 1:
            raise InvalidValue(f"per_class has labels of type {', '.join(kinds)}: give numbers alone, or texts alone.")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        row = int(np.flatnonzero(np.isnan(labels))[0])
        raise InvalidValue(
            f"per_class of row {row} is NaN, which is no class. Give rows without a label one of their own."
        )
    return labels


def choose(
    labels: np.ndarray | None,
    n: int,
    epoch: int,
    seed: int,
    chosen: Chosen,
    purpose: seeds.Purpose = seeds.Purpose.TIES,
) -> np.ndarray:
    """The rows that `chosen` chooses from all `n` rows (labels None), or from each class separately.

    `purpose`: what the random numbers are for. Returns packed bits, (ceil(n / 8),) uint8. Raises `InvalidValue` for labels of
    another length.
    """
    if labels is None:
        return chosen(slice(None), seeds.key(seed, epoch, purpose))
    kept = np.zeros(n, np.bool_)
    for number, members in enumerate(_classes(labels, n)):
        # a different key for each class: an equal one would choose the same positions within every class
        part = chosen(members, seeds.key(seed, epoch, purpose, number))
        kept[members] = np.unpackbits(part, count=len(members), bitorder="little")
    return np.packbits(kept, bitorder="little")


def _classes(labels: np.ndarray, n: int) -> Iterator[np.ndarray]:
    """The rows of each class, ascending; the classes come in the order of their labels."""
    if labels.shape != (n,):
        raise InvalidValue(f"per_class has shape {labels.shape}: one label for each of the {n} rows is needed.")
    by_class = np.argsort(labels, kind="stable")
    ordered = labels[by_class]
    yield from np.split(by_class, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)
