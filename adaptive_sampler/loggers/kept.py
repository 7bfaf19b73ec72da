"""What a plan keeps of each class."""

from typing import Any

import numpy as np

from adaptive_sampler.arrays import as_labels
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.store import ScoreStore

_NAMED = 100  # classes that get a curve of their own; of more, only the least and the most kept one are told


class Labelled:
    """The class of each row. Raises `InvalidValue` for `labels` that are no (n,) integers, bools or strings."""

    def __init__(self, labels: Any) -> None:
        given = as_labels(labels)
        if given.ndim != 1 or given.dtype.kind not in "iubUT":
            raise InvalidValue(
                f"labels has shape {given.shape} and dtype {given.dtype}: one integer, bool or string is needed for each row. "
                "Convert them."
            )
        self.names, self._members = np.unique(given, return_inverse=True)
        self._rows = np.bincount(self._members)

    def counts(self, plan: Plan, n: int) -> tuple[np.ndarray, np.ndarray]:
        """How many rows each class has, and how many of these the plan keeps, (classes,) int64 each.

        `n`: the rows of the store. Raises `InvalidValue` unless there are as many labels.
        """
        if len(self._members) != n:
            raise InvalidValue(f"labels has {len(self._members)} rows, the store has {n}: pass one label for each row.")
        if plan.kept is None and plan.n == n:
            return self._rows, self._rows
        kept = np.unpackbits(_bits(plan, n), count=n, bitorder="little").view(np.bool_)
        return self._rows, np.bincount(self._members[kept], minlength=len(self._rows))


def kept_of_classes(plan: Plan, store: ScoreStore, labels: Labelled | None) -> dict[str, float]:
    """The share that `plan` keeps of the least and of the most kept class, and of each if they are not too many.

    `labels` None: those that the store's hooks have seen, as far as they have; nothing if they have seen none.
    """
    if labels is not None:
        names, (rows, kept) = labels.names, labels.counts(plan, len(store))
    elif store.session.classes.seen:
        rows, kept = store.session.classes.counts(_bits(plan, len(store)))
        names = np.arange(len(rows))
    else:
        return {}
    there = np.flatnonzero(rows)
    if not len(there):
        return {}
    share = kept[there] / rows[there]
    told = {"sampler/kept_of_class_min": float(share.min()), "sampler/kept_of_class_max": float(share.max())}
    if len(there) <= _NAMED:
        shown = [str(name).replace("/", "_") or "(empty)" for name in names[there]]  # a slash would begin a group
        told |= {f"kept_of_class/{name}": float(part) for name, part in zip(shown, share, strict=True)}
    return told


def _bits(plan: Plan, n: int) -> np.ndarray:
    """A bit for each of the store's `n` rows: whether the plan visits it; those that came after the plan, it does not."""
    if plan.kept is None:
        return np.packbits(np.arange(n) < plan.n, bitorder="little")
    return np.pad(plan.kept, (0, max(-(-n // 8) - len(plan.kept), 0)))
