"""Shares of a total size instead of a number of rows, such as of all tokens: a row counts as many units as it has."""

from collections.abc import Callable
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.kernels import select
from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.kernels.sized import rank_at
from adaptive_sampler.selection.base import Scores, Ties

_RULE = "A size is a whole number, 0 or more"
_MOST = 2**62  # units of all rows together, so that their sum fits int64


def check_size(size: Any) -> None:
    """Raise `InvalidValue` unless `size` is None, or a str: the name of a column or a score of the store."""
    if size is not None and not isinstance(size, str):
        raise InvalidValue(
            f"size={size!r}: the name of a column of the store, or of a score, as a str such as 'tokens'. Set "
            "store.columns['tokens'], and pass size='tokens'."
        )


def sizes_of(store: Scores, size: str) -> np.ndarray:
    """The size of each row, (n,) int64: a column of the store or, if there is none of that name, a score.

    Raises `UnknownName` if there is neither, and `InvalidValue` for sizes that are not whole numbers of 0 or more, and for a sum of
    0 or above 2⁶².
    """
    if size in store.columns:
        values = np.asarray(store.columns[size])
    else:
        try:
            values = store[size]
        except UnknownName as error:
            known = ", ".join(store.columns) or "none"
            raise UnknownName(
                f"size={size!r} is no column of the store, whose columns are: {known}; and no score. Set "
                f"store.columns[{size!r}] = the size of each row."
            ) from error
    if values.dtype.kind not in "iuf":
        raise InvalidValue(f"size={size!r} holds {values.dtype}. {_RULE}: name a column of numbers.")
    whole = values >= 0
    if values.dtype.kind == "f":
        whole &= np.isfinite(values) & (np.floor(values) == values)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise InvalidValue(
            f"size={size!r} is {values[row]} in row {row}. {_RULE}: set store.columns[{size!r}], or name another column."
        )
    total = float(values.sum(dtype=np.float64))
    if not 0 < total <= _MOST:
        raise InvalidValue(
            f"size={size!r}: all rows together have {total:g} units; more than 0 are needed, 2**62 at most."
        )
    return values.astype(np.int64)


def total_of(sizes: np.ndarray, rows: Any) -> int:
    """The size of `rows` together. Raises `InvalidValue` if it is 0, of which there is no share."""
    total = int(sizes[rows].sum())
    if total == 0:
        raise InvalidValue(
            f"row {rows[0]} and the others of its group have size 0 together, of which there is no share. Give them a size, or put "
            "them into another group."
        )
    return total


def fill(
    scores: np.ndarray,
    sizes: np.ndarray,
    budget: int,
    start: Callable[[int, int], int],
    *,
    age: np.ndarray | None,
    salt: int,
    ties: Ties,
    identity: Identity,
    never_none: bool,
) -> np.ndarray:
    """As `base.fill`, with units in place of ranks: `sizes`, (n,) int64, says how many each row has; `budget` and what `start`
    takes and returns are units.

    In ascending order a row belongs to the stretch in which its first unit lies, so that stretches that meet share no row and
    leave none out; rows of size 0 at the very end belong to the last one. `never_none`: where that leaves no row, the first one
    at or after the stretch's beginning is chosen, or else the last.
    """
    first = np.isnan(scores)
    ranked = int(sizes[~first].sum())
    number = max(budget - int(sizes[first].sum()), 0)
    if age is not None:
        old = int(sizes[~np.isnan(age)].sum())
        low = rank_at(age, sizes, old - min(old, number), salt=salt, ties="random", identity=identity)
        stop = int(np.count_nonzero(~np.isnan(age)))
        packed = select.rank_window(age, low, stop, salt=salt, ties="random", identity=identity)
        oldest = np.unpackbits(packed, count=len(scores), bitorder="little").view(np.bool_)
        scores, first = np.where(oldest, np.float32(np.nan), scores), first | oldest
        taken = int(sizes[oldest].sum())
        ranked, number = ranked - taken, max(number - taken, 0)
    begin = start(ranked, number)
    low, high = (
        rank_at(scores, sizes, unit, salt=salt, ties=ties, identity=identity) for unit in (begin, begin + number)
    )
    if never_none and low == high and not first.any():
        low = min(low, len(scores) - 1)
        high = low + 1
    best: np.ndarray = select.rank_window(scores, low, high, salt=salt, ties=ties, identity=identity)
    return best | np.packbits(first, bitorder="little")
