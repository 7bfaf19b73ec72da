"""Selection within each group: what a policy does to all rows, it does to the rows of each group separately."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.selection.base import Scores

# (rows, their identity) -> which of the rows stay, as np.packbits(..., bitorder="little") packs it. `rows`: (m,) int64, or
# a slice for all rows.
Chosen = Callable[[Any, Identity], np.ndarray]


def settle_groups(policy: Any) -> None:
    """Make arrays of the labels that a policy was given as `per_class`, if it has that, or as `per_group`.

    `per_group` may also be a str, the name of a column of the store. Raises `InvalidValue` for both at once, and for labels that
    have not exactly one axis, are not of one kind, or are NaN.
    """
    given = {name: getattr(policy, name, None) for name in ("per_class", "per_group")}
    if all(labels is not None for labels in given.values()):
        raise InvalidValue("per_class and per_group are two names for the groups of the rows: pass one of them.")
    for name, labels in given.items():
        if labels is not None and not (name == "per_group" and isinstance(labels, str)):
            object.__setattr__(policy, name, _labels(labels, name))


def grouped(policy: Any) -> bool:
    """Whether a policy was told to choose within groups."""
    return getattr(policy, "per_class", None) is not None or getattr(policy, "per_group", None) is not None


def members(policy: Any, store: Scores) -> Iterator[tuple[Any, Identity]]:
    """(rows, their identity) of each group that a policy chooses within, or of all rows, a slice, if it has none.

    The rows of a group ascend, (m,) int64; the groups come in the order of their labels. Raises `InvalidValue` for labels of
    another length, and `UnknownName` for a column that the store does not have.
    """
    identity = store.identity
    if not grouped(policy):
        yield slice(None), identity
        return
    labels = _labels_of(policy, store)
    by_group = np.argsort(labels, kind="stable")
    ordered = labels[by_group]
    for rows in np.split(by_group, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1):
        yield rows, identity.part(rows)


def choose(policy: Any, store: Scores, chosen: Chosen) -> np.ndarray:
    """The rows that `chosen` chooses from each of the policy's groups, or from all: packed bits, (ceil(n / 8),) uint8.

    What is random hashes the row itself, not its place in its group: so one seed chooses independently in every group. Raises as
    `members` does.
    """
    if not grouped(policy):
        return chosen(slice(None), store.identity)
    kept = np.zeros(len(store), np.bool_)
    for rows, identity in members(policy, store):
        kept[rows] = np.unpackbits(chosen(rows, identity), count=len(rows), bitorder="little")
    return np.packbits(kept, bitorder="little")


def _labels_of(policy: Any, store: Scores) -> np.ndarray:
    """The label of each row, (n,)."""
    name = "per_class" if getattr(policy, "per_class", None) is not None else "per_group"
    labels = getattr(policy, name)
    if isinstance(labels, str):
        if labels not in store.columns:
            told = ", ".join(map(repr, store.columns)) or "none"
            raise UnknownName(
                f"per_group={labels!r} is no column of the store, whose columns are: {told}. Set store.columns[{labels!r}], or "
                f"pass (n,) labels."
            )
        labels = _labels(store.columns[labels], f"column {labels!r}")
    if labels.shape != (len(store),):
        raise InvalidValue(f"{name} has shape {labels.shape}: one label for each of the {len(store)} rows is needed.")
    found: np.ndarray = labels
    return found


def _labels(given: Any, name: str) -> np.ndarray:
    """Labels as an array on the host, (n,). `name`: what they are, for messages."""
    labels = to_host(given)
    if labels.ndim != 1:
        raise InvalidValue(f"{name} has shape {labels.shape}: one label for each row, (n,), is needed. Flatten it.")
    if labels.dtype.hasobject:  # such as texts in a column of pandas
        kinds = sorted({type(label).__name__ for label in labels.tolist()})
        labels = np.array(labels.tolist()) if len(kinds) == 1 else labels
        if labels.dtype.hasobject or labels.ndim != 1:
            raise InvalidValue(f"{name} has labels of type {', '.join(kinds)}: give numbers alone, or texts alone.")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        row = int(np.flatnonzero(np.isnan(labels))[0])
        raise InvalidValue(
            f"{name} of row {row} is NaN, which is no class. Give rows without a label one of their own."
        )
    return labels
