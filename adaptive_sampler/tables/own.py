"""Columns of the user's own from a table: which of its columns they are, and their values in the order of rows."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.memory.user_columns import check_name

Columns = Sequence[str] | Mapping[str, str] | None
_WHOLE = re.compile("0|-?[1-9][0-9]{0,19}")
_NUMBER = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?(e[-+]?[0-9]+)?|inf)|nan")


def own_names(columns: Columns, about: Mapping[str, Any] | None, scores: Sequence[str]) -> dict[str, str]:
    """Column of the table -> name in the store. None: those that `about`, which `export` wrote, names.

    Raises `InvalidValue` for anything else than columns and names, for a name that is not free, and for one that comes twice.
    """
    if columns is None:
        columns = dict(about["columns"]) if about else {}
    elif isinstance(columns, str):
        raise InvalidValue(
            f"columns={columns!r}: a list of columns, or a dict of columns and names. Pass [{columns!r}]."
        )
    elif not isinstance(columns, Mapping):
        noted = about["columns"] if about else {}
        columns = {column: noted.get(column, column) for column in columns}
    names = [*columns.values()]
    for name in names:
        check_name(name, scores)
        if names.count(name) > 1:
            raise InvalidValue(f"columns={columns!r}: two become {name!r}. Give each a name of its own.")
    return dict(columns)


def untyped(column: UserColumn) -> UserColumn:
    """A column of texts as what all of them say: True and False, whole numbers, numbers; else as texts.

    So are columns of a CSV file, which has no types. Texts stay: whole numbers that neither int64 nor uint64 holds,
    beside floats those that no float is equal to, and numbers that are too large for a float.
    """
    texts = column.categories.texts()
    if set(texts) <= {"True", "False"}:
        values = np.array([text == "True" for text in texts])
    elif all(map(_WHOLE.fullmatch, texts)):
        whole = [int(text) for text in texts]
        dtype = next((kind for kind in (np.int64, np.uint64) if _holds(kind, whole)), None)
        if dtype is None:
            return column
        values = np.array(whole, dtype)  # of its own accord NumPy would make floats of some
    elif all(map(_NUMBER.fullmatch, texts)) and all(map(_is_exact, texts)):
        values = np.array([float(text) for text in texts])
    else:
        return column
    return UserColumn(values.dtype.name, column.n, values[column.values])


def _is_exact(text: str) -> bool:
    """Whether a float holds this number: a whole one that is written so exactly, any other not as infinite."""
    if text.removeprefix("-").isdecimal():
        return int(text) == float(text)
    return text.endswith("inf") or not math.isinf(float(text))


def _holds(dtype: Any, whole: Sequence[int]) -> bool:
    limits = np.iinfo(dtype)
    return min(whole) >= limits.min and max(whole) <= limits.max
