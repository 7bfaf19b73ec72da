"""Shares of a total size instead of a number of rows, such as of all tokens: a row counts as many units as it has."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.kernels.select import without
from adaptive_sampler.selection.base import Scores, Ties
from adaptive_sampler.selection.per_group import Ranking

# (rows in the ranking, how many of these to keep) -> the rank at which the kept ones begin, of the ascending ranking
Start = Callable[[int, int], int]
Stretches = Sequence[tuple[int, Start]]  # (budget, start) of each group, as `Ranked.stretch` returns it

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


def totals_of(groups: Ranking, sizes: np.ndarray) -> np.ndarray:
    """The size of each group, int64. Raises `InvalidValue` for one of 0, of which there is no share."""
    totals = groups.sums(sizes)
    if not totals.all():
        rows = next(rows for (rows, _), total in zip(groups.members(), totals, strict=True) if total == 0)
        raise InvalidValue(
            f"row {rows[0]} and the others of its group have size 0 together, of which there is no share. Give them a size, or put "
            "them into another group."
        )
    return totals


def budgets(stretches: Stretches) -> list[int]:
    """How many rows, or units, of each group are kept."""
    return [budget for budget, _ in stretches]


def starts(stretches: Stretches, ranked: list[int], number: list[int]) -> list[int]:
    """Where in each group's ranking of so many rows, or units, the window of `number` of them begins."""
    return [start(all_, some) for (_, start), all_, some in zip(stretches, ranked, number, strict=True)]


def fill(
    groups: Ranking,
    scores: np.ndarray,
    sizes: np.ndarray,
    stretches: Stretches,
    *,
    age: np.ndarray | None,
    salt: int,
    ties: Ties,
    never_none: bool,
) -> np.ndarray:
    """As `ranked.fill`, with units in place of ranks: `sizes`, (n,) int64, says how many each row has; budgets and what a start
    takes and returns are units.

    In ascending order a row belongs to the stretch in which its first unit lies, so that stretches that meet share no row and
    leave none out; rows of size 0 at the very end belong to the last one. `never_none`: where that leaves no row of a group, the
    first one at or after the stretch's beginning is chosen, or else the last.
    """
    first = np.isnan(scores)
    forced = groups.sums(sizes * first)
    ranked, number = groups.sums(sizes) - forced, np.maximum(np.array(budgets(stretches)) - forced, 0)
    if age is not None:
        known = ~np.isnan(age)
        old = groups.sums(sizes * known)
        low = groups.ranks_at(age, sizes, old - np.minimum(old, number), salt=salt, ties="random")
        packed = groups.window(age, low, groups.sums(known), salt=salt, ties="random")
        oldest = np.unpackbits(packed, count=len(scores), bitorder="little").view(np.bool_)
        scores, first = without(scores, packed), first | oldest
        taken = groups.sums(sizes * oldest)
        ranked, number = ranked - taken, np.maximum(number - taken, 0)
    begin = np.array(starts(stretches, ranked.tolist(), number.tolist()))
    low, high = (groups.ranks_at(scores, sizes, unit, salt=salt, ties=ties) for unit in (begin, begin + number))
    if never_none:
        none = (low == high) & (groups.sums(first) == 0)
        low = np.where(none, np.minimum(low, groups.numbers - 1), low)
        high = np.where(none, low + 1, high)
    return groups.window(scores, low, high, salt=salt, ties=ties) | np.packbits(first, bitorder="little")
