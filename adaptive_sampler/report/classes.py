"""The classes or groups of the rows, few enough to show each: the largest by name, all others as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptive_sampler.arrays import as_labels
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.store import ScoreStore

MOST = 24  # classes that are shown by name
_LETTERS = 40  # of a name
_ATTRIBUTES = ("targets", "labels")  # where datasets have the labels of all samples
_COLUMNS = ("label", "labels", "class", "target", "group")  # and stores


@dataclass(frozen=True)
class RowClasses:
    """`names`: of what is shown. `members`: (n,) the number of each row's class among them. `values`: (n,) the labels."""

    names: list[str]
    members: np.ndarray
    values: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """How many rows each has, (classes,) int64."""
        return np.bincount(self.members, minlength=len(self.names))

    def kept(self, visited: np.ndarray) -> np.ndarray:
        """How many rows of each are visited, (classes,) int64. `visited`: (n,) bool."""
        return np.bincount(self.members[: len(visited)][visited], minlength=len(self.names))


def find(store: ScoreStore, dataset: Any, labels: Any) -> RowClasses | None:
    """The classes of `labels`, (n,) or the name of a column of the store; None: those that dataset or store have, if any.

    Raises `InvalidValue` for labels that are not one integer, bool or string a row.
    """
    if labels is None:
        there = [_attribute(dataset, name) for name in _ATTRIBUTES]
        there += [store.columns[name] for name in _COLUMNS if name in store.columns]
        usable = [one for one in (_checked(one, store) for one in there if one is not None) if not isinstance(one, str)]
        return _grouped(usable[0]) if usable else None
    if isinstance(labels, str):
        if labels not in store.columns:
            known = ", ".join(store.columns) or "none"
            raise InvalidValue(
                f"labels={labels!r} is no column of the store, whose columns are: {known}. Pass an array, or set that column."
            )
        labels = store.columns[labels]
    values = _checked(labels, store)
    if isinstance(values, str):
        raise InvalidValue(values)
    return _grouped(values)


def _attribute(dataset: Any, name: str) -> Any:
    """What the dataset has under this name; None for nothing, for a method, and for a property that raises."""
    try:
        found = getattr(dataset, name, None)
    except Exception:  # nobody asked for it, so a page without classes is better than none
        return None
    return None if callable(found) else found


def _checked(labels: Any, store: ScoreStore) -> np.ndarray | str:
    """The labels as an array, or what is wrong with them."""
    try:
        values = as_labels(labels)
    except (ValueError, TypeError) as error:
        return f"labels are no array: {error}. Pass one integer or string for each row."
    if values.shape != (len(store),):
        return f"labels have shape {values.shape}: one for each of the {len(store)} rows is needed. Pass those of the store's rows."
    if values.dtype.kind not in "iubUT":
        return f"labels have dtype {values.dtype}: classes are integers, bools or strings. Convert them."
    return values


def _grouped(values: np.ndarray) -> RowClasses:
    found, members, sizes = np.unique(values, return_inverse=True, return_counts=True)
    names: Sequence[str] = [_short(str(value)) for value in found]
    if len(found) <= MOST:
        return RowClasses(_told_apart(names), members, values)
    shown = np.sort(np.argsort(-sizes, kind="stable")[: MOST - 1])
    numbers = np.full(len(found), MOST - 1)
    numbers[shown] = np.arange(MOST - 1)
    others = f"{len(found) - MOST + 1:,} other classes"
    return RowClasses([*_told_apart([names[i] for i in shown]), others], numbers[members], values)


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _told_apart(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that are the same once they are shortened."""
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]
