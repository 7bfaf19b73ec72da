"""Selection within each group: what a policy does to all rows, it does to the rows of each group separately."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.kernels import grouped as kernels
from adaptive_sampler.kernels import select
from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.selection.base import Scores, Ties

_NAMES = ("per_class", "per_group", "groups")  # of fields that hold groups; a policy has one or two of them
_CODES: WeakKeyDictionary[Any, np.ndarray] = WeakKeyDictionary()  # of a policy's labels, which it has for good


@runtime_checkable
class Coded(Protocol):
    """Columns that have numbers for their texts already, as those of a `ScoreStore` do."""

    def codes(self, name: str) -> np.ndarray | None:
        """The texts of a column as numbers, (n,) unsigned, which are equal where texts are; None for a column of numbers."""


Ranks = Sequence[int] | np.ndarray  # one for each group


class Ranking(Protocol):
    """Rows that are ranked by themselves: those of each group or, as the only group, all.

    Values of rows are in the order of `rows`, one group behind the other; what is of a group is (groups,).
    """

    numbers: np.ndarray
    """How many rows each group has, int64."""
    identity: Identity
    """The names of the rows."""

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values in the order of a store's rows, (n,), in this order."""

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of the values of each group, int64; of truth values, how many are true."""

    def window(self, scores: np.ndarray, lo: Ranks, hi: Ranks, *, salt: int, ties: Ties) -> np.ndarray:
        """The rows whose rank in their group is in [lo, hi), as np.packbits(..., bitorder="little") packs it."""

    def random(self, number: np.ndarray, salt: int) -> np.ndarray:
        """So many rows of each group, by their hashes; packed likewise."""

    def ranks_at(
        self, scores: np.ndarray, sizes: np.ndarray, units: np.ndarray, *, salt: int, ties: Ties
    ) -> np.ndarray:
        """How many rows of each group begin before so many units, as `kernels.grouped.ranks_at` says."""

    def members(self) -> Iterator[tuple[Any, Identity]]:
        """(rows, their identity) of each group: (m,) int64, which ascend; a slice if there are no groups."""

    def kept(self, packed: np.ndarray) -> np.ndarray:
        """Packed bits of rows in this order, in the order of the store's rows."""


class Ungrouped:
    """All rows of a store, as one group."""

    def __init__(self, identity: Identity) -> None:
        self.identity, self.numbers = identity, np.array([len(identity)])

    def of(self, values: np.ndarray) -> np.ndarray:
        return values

    def sums(self, values: np.ndarray) -> np.ndarray:
        return np.array([np.count_nonzero(values) if values.dtype == np.bool_ else values.sum()])

    def window(self, scores: np.ndarray, lo: Ranks, hi: Ranks, *, salt: int, ties: Ties) -> np.ndarray:
        kept: np.ndarray = select.rank_window(
            scores, int(lo[0]), int(hi[0]), salt=salt, ties=ties, identity=self.identity
        )
        return kept

    def random(self, number: np.ndarray, salt: int) -> np.ndarray:
        kept: np.ndarray = select.hash_window(len(self.identity), 0, int(number[0]), salt=salt, identity=self.identity)
        return kept

    def ranks_at(
        self, scores: np.ndarray, sizes: np.ndarray, units: np.ndarray, *, salt: int, ties: Ties
    ) -> np.ndarray:
        bounds = np.array([0, len(scores)])
        return kernels.ranks_at(scores, sizes, bounds, units, salt=salt, ties=ties, identity=self.identity)

    def members(self) -> Iterator[tuple[Any, Identity]]:
        yield slice(None), self.identity

    def kept(self, packed: np.ndarray) -> np.ndarray:
        return packed


class Groups:
    """The rows of a store by groups. `codes`: (n,) unsigned, the group of each row; groups without a row are left out."""

    def __init__(self, identity: Identity, codes: np.ndarray) -> None:
        self._codes, groups = codes.astype(np.uint32), int(codes.max()) + 1
        self._rows, self._bounds = kernels.by_group(self._codes, groups)
        self._starts = np.zeros(groups, np.int64)  # of each code
        self._starts[codes[self._rows[self._bounds[:-1]]]] = self._bounds[:-1]
        self.identity = identity.part(self._rows)
        self.numbers = np.diff(self._bounds)

    def of(self, values: np.ndarray) -> np.ndarray:
        found = np.empty(len(values), values.dtype)
        kernels.collect(self._codes, self._starts.copy(), np.ascontiguousarray(values), found)
        return found

    def sums(self, values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, self._bounds[:-1], dtype=np.int64)

    def window(self, scores: np.ndarray, lo: Ranks, hi: Ranks, *, salt: int, ties: Ties) -> np.ndarray:
        bounds = self._bounds, np.asarray(lo, np.int64), np.asarray(hi, np.int64)
        return kernels.rank_windows(scores, *bounds, salt=salt, ties=ties, identity=self.identity)

    def random(self, number: np.ndarray, salt: int) -> np.ndarray:
        equal = np.zeros(len(self._rows), np.float32)
        return self.window(equal, np.zeros_like(number), number, salt=salt, ties="random")

    def ranks_at(
        self, scores: np.ndarray, sizes: np.ndarray, units: np.ndarray, *, salt: int, ties: Ties
    ) -> np.ndarray:
        return kernels.ranks_at(scores, sizes, self._bounds, units, salt=salt, ties=ties, identity=self.identity)

    def members(self) -> Iterator[tuple[Any, Identity]]:
        for start, stop in zip(self._bounds[:-1], self._bounds[1:], strict=True):
            yield self._rows[start:stop], self.identity.part(np.arange(start, stop))

    def kept(self, packed: np.ndarray) -> np.ndarray:
        kept = np.empty(len(self._rows), np.uint8)
        inside = np.unpackbits(packed, count=len(self._rows), bitorder="little")
        kernels.spread(self._codes, self._starts.copy(), inside, kept)
        return np.packbits(kept, bitorder="little")


def settle_groups(policy: Any) -> None:
    """Make arrays of the labels that a policy was given as `per_class`, `per_group` or `groups`, if it has that; read-only copies.

    All but `per_class` may also be a str, the name of a column of the store. Raises `InvalidValue` for two at once, and for labels
    that have not exactly one axis, are not of one kind, or are NaN.
    """
    given = {name: labels for name in _NAMES if (labels := getattr(policy, name, None)) is not None}
    if len(given) > 1:
        raise InvalidValue("per_class and per_group are two names for the groups of the rows: pass one of them.")
    for name, labels in given.items():
        if name == "per_class" or not isinstance(labels, str):
            array = _labels(labels, name)
            if array.flags.writeable or not array.flags.owndata:  # else it is ours, or nobody can change it
                array = np.array(array)
                array.setflags(write=False)
            object.__setattr__(policy, name, array)


def grouped(policy: Any) -> bool:
    """Whether a policy was told to choose within groups."""
    return _grouped_by(policy) is not None


def _grouped_by(policy: Any) -> str | None:
    """The name of the field that holds a policy's groups; None if it has none."""
    for name in _NAMES:
        if getattr(policy, name, None) is not None:
            return name
    return None


def ranking(policy: Any, store: Scores) -> Ranking:
    """The groups that a policy chooses within, or all rows.

    What is random hashes the row itself, not its place in its group: so one seed chooses independently in every group. Raises
    `InvalidValue` for labels of another length, and `UnknownName` for a column that the store does not have.
    """
    return Groups(store.identity, _codes(policy, store)) if grouped(policy) else Ungrouped(store.identity)


def _codes(policy: Any, store: Scores) -> np.ndarray:
    """The group of each row as a number, (n,) unsigned."""
    name = _grouped_by(policy)
    assert name is not None
    labels = getattr(policy, name)
    if isinstance(labels, str):
        if labels not in store.columns:
            told = ", ".join(map(repr, store.columns)) or "none"
            raise UnknownName(
                f"{name}={labels!r} is no column of the store, whose columns are: {told}. Set store.columns[{labels!r}], or "
                f"pass (n,) labels."
            )
        codes = store.columns.codes(labels) if isinstance(store.columns, Coded) else None
        if codes is not None:
            return codes
        column = np.asarray(store.columns[labels])
        return _coded(column if column.dtype.kind == "O" else _labels(column, f"column {labels!r}"))
    if labels.shape != (len(store),):
        raise InvalidValue(f"{name} has shape {labels.shape}: one label for each of the {len(store)} rows is needed.")
    if policy not in _CODES:
        _CODES[policy] = _coded(labels)
    return _CODES[policy]


def _coded(labels: np.ndarray) -> np.ndarray:
    """Labels as numbers, (n,) of the smallest unsigned dtype; some numbers may stand for no label."""
    if labels.dtype == np.bool_:
        return labels.view(np.uint8)
    if labels.dtype.kind in "iu":
        low, high = int(labels.min()), int(labels.max())
        if high - low <= 4 * len(labels):
            return (labels - labels.dtype.type(low) if low else labels).astype(np.min_scalar_type(high - low))
    if labels.dtype.kind in "OU":
        known: dict[str, int] = {}
        codes = np.fromiter((known.setdefault(label, len(known)) for label in labels.tolist()), np.int64, len(labels))
        return codes.astype(np.min_scalar_type(len(known)))
    found, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.min_scalar_type(len(found)))


def _labels(given: Any, name: str) -> np.ndarray:
    """Labels as an array on the host, (n,). `name`: what they are, for messages."""
    texts = {issubclass(kind, str) for kind in set(map(type, given))} if isinstance(given, (list, tuple)) else ()
    labels = to_host(np.array(given, object) if len(texts) > 1 else given)  # NumPy would make texts of numbers
    if labels.ndim != 1:
        raise InvalidValue(f"{name} has shape {labels.shape}: one label for each row, (n,), is needed. Flatten it.")
    if labels.dtype.hasobject or labels.dtype.kind == "T":  # such as texts in a column of pandas
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
