"""The columns of the user's own, beside the scores: group, source, length, whatever the scores do not say."""

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any, Protocol

import numpy as np

from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import InvalidValue, StoreError, UnknownName
from adaptive_sampler.memory.table import Table
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.memory.user_values import made

KEYS = "keys"  # the group that a version keeps the rows' keys in


class Owner(Protocol):
    """The open store whose columns these are."""

    table: Table
    columns: dict[str, UserColumn]
    updates: int

    def to_write(self) -> Any:
        """Raises `StoreError` if nothing may be written."""


class UserColumns(MutableMapping[str, Any]):
    """A store's columns of your own, by name, as a dict of arrays: `store.columns["source"] = values`.

    A column has one value for each row: texts, truth values, integers or floats, in which NaN is allowed, and a null of Arrow,
    pandas or Polars becomes one. `values`: (n,), of any array library, Arrow, pandas or Polars, or a list. They are copied, lasting
    with the next commit. What is read is (n,) and read-only: numbers in the dtype that they were given in, texts as objects of
    Python's `str`, which every library takes; texts that are equal are kept once. A name is an identifier that no score has.

    Raises `UnknownName`, a KeyError, for a column that the store does not have; `InvalidValue` for a name or for values that
    break these rules; and `StoreError` where nothing may be written, and for a column that has no values for rows that
    `store.grow` added. On ranks, set a column on every rank alike.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def __getitem__(self, name: str) -> np.ndarray:
        return self._whole(name).read()

    def codes(self, name: str) -> np.ndarray | None:
        """The texts of a column as numbers, (n,) unsigned, which are equal where texts are; None for a column of numbers.

        Raises as reading the column does.
        """
        column = self._whole(name)
        return column.values if column.is_text else None

    def _whole(self, name: str) -> UserColumn:
        columns = self._owner.columns
        if name not in columns:
            raise _unknown(name, columns)
        check_whole({name: columns[name]}, self._owner.table.n)
        return columns[name]

    def __setitem__(self, name: str, values: Any) -> None:
        owner = self._owner
        owner.to_write()
        column = made_new(name, values, owner.table)
        if name not in owner.columns or not owner.columns[name].same(column):  # so that a commit writes no equal ones
            owner.columns[name] = column
            owner.updates += 1

    def __delitem__(self, name: str) -> None:
        owner = self._owner
        owner.to_write()
        if name not in owner.columns:
            raise _unknown(name, owner.columns)
        del owner.columns[name]
        owner.updates += 1

    def clear(self) -> None:
        """Delete all columns, those too that have no values for rows that the store has grown by."""
        for name in self:
            del self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._owner.columns

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._owner.columns))

    def __len__(self) -> int:
        return len(self._owner.columns)

    def __repr__(self) -> str:
        return f"UserColumns({kinds(self._owner.columns)})"


def made_new(name: str, values: Any, table: Table) -> UserColumn:
    """A column for the rows of `table`. Raises `InvalidValue` for a name or values that it may not have."""
    check_name(name, table.columns)
    return made(name, values, table.n)


def check_name(name: Any, scores: Collection[str]) -> None:
    """Raise `InvalidValue` for what a column cannot be named, beside scores of these names."""
    if not isinstance(name, str) or not name.isidentifier() or name == KEYS:
        also = f" other than {KEYS!r}" if name == KEYS else ""
        raise InvalidValue(
            f"column name {name!r}: an identifier{also} is needed, such as 'source': it names a group in Zarr."
        )
    if name in scores:
        raise InvalidValue(f"column name {name!r}: a score has that name. Take another one.")


def check_free(name: str, columns: Mapping[str, UserColumn]) -> None:
    """Raise `InvalidValue` if a new score would take the name of a column."""
    if name in columns:
        raise InvalidValue(
            f"score name {name!r}: a column of your own has it. Give the score another name=, or del store.columns[{name!r}]."
        )


def check_whole(columns: Mapping[str, UserColumn], n: int) -> None:
    """Raise `StoreError` if a column has fewer values than the store has rows."""
    for name, column in columns.items():
        if column.n != n:
            raise StoreError(
                f"column {name!r} has {column.n} values for {n} rows: the store has grown since it was set. Set it anew for all "
                f"rows, store.columns[{name!r}] = values, or del store.columns[{name!r}]."
            )


def digest(columns: Mapping[str, UserColumn], scores: int = 0) -> int:
    """A checksum of all columns, in any order, and of the number `scores`. It reads what is still on disk."""
    return checksum([repr((scores, sorted((name, column.digest) for name, column in columns.items()))).encode()])


def kinds(columns: Mapping[str, UserColumn]) -> dict[str, str]:
    """What each column holds: "text", or the dtype of its numbers."""
    return {name: column.kind for name, column in columns.items()}


def _unknown(name: str, columns: Mapping[str, UserColumn]) -> UnknownName:
    known = ", ".join(columns) or "none"
    return UnknownName(f"the store has no column {name!r}; it has {known}. Set it: store.columns[{name!r}] = values.")
