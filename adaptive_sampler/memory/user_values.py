"""The values of a column of the user's own, as arrays and lists of any kind bring them; each is checked."""

import numbers
from collections.abc import Mapping, Sequence, Set
from typing import Any, NoReturn

import numpy as np

from adaptive_sampler.arrays import library, to_host
from adaptive_sampler.arrays import numbers as plain_numbers
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.user_column import KINDS, TEXT, UserColumn

_HOLDS = "A column holds texts, truth values, integers or floats, and all of one of these"
_FAMILIES = ("text", "truth value", "integer", "float")


def made(name: str, values: Any, n: int) -> UserColumn:
    """The column that these values make. `values`: n texts, truth values, integers or floats; of any array library, Arrow,
    pandas or Polars, or a list.

    NaN is a float, and so is a null among floats that have a type, as in Arrow, Polars and pandas: it is read as NaN. Raises
    `InvalidValue` for any other null, for values of mixed or other types, and unless there is one for each row.
    """
    array = _array(name, values)
    if array.shape != (n,):
        raise InvalidValue(
            f"column {name!r}: values of shape {array.shape} for {n} rows; a column has one value for each row. Pass {n} "
            "values, in the order of rows."
        )
    if array.dtype.kind in "OUT":
        objects = array.tolist()
        found = _numbers(name, objects)
        if found is None:
            return of_texts(objects)
        array = found
    kind = array.dtype.name
    if kind not in KINDS:
        raise InvalidValue(
            f"column {name!r}: values of dtype {array.dtype}. {_HOLDS}; cast them, as by .astype({_cast(array)})."
        )
    return UserColumn(
        kind, n, array.astype(array.dtype.newbyteorder("<"), order="C")
    )  # a copy: the caller's may change


def of_texts(texts: Sequence[str]) -> UserColumn:
    """The column of these texts."""
    codes: dict[str, int] = {}
    found = np.fromiter((codes.setdefault(text, len(codes)) for text in texts), np.int64, len(texts))
    return UserColumn(
        TEXT, len(texts), found.astype(np.min_scalar_type(max(len(codes) - 1, 0))), KeyMap.of(map(str, codes))
    )


def _array(name: str, values: Any) -> np.ndarray:
    """The values as a NumPy array: of objects, unless they have a dtype."""
    if hasattr(values, "mask") and hasattr(values, "filled"):  # NumPy's masked arrays
        raise InvalidValue(
            f"column {name!r}: a masked array, of which a column has a value in each row, too. Fill it, as by .filled(-1)."
        )
    if library(values):
        return plain_numbers(to_host(values))
    if isinstance(values, (str, bytes, Mapping, Set)) or not hasattr(values, "__len__"):
        raise InvalidValue(
            f"column {name!r}: {type(values).__name__} is no list of values. {_HOLDS}: pass an array or a list."
        )
    if hasattr(values, "__array__") and not _lacks(values):
        return np.asarray(values)
    objects = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    return np.fromiter(objects, object, len(objects))


def _lacks(values: Any) -> bool:
    """Whether these are values of Arrow, Polars or pandas, not floats, of which some are null: an array would make them NaN."""
    kind = str(getattr(values, "type", getattr(values, "dtype", ""))).lower()
    if "float" in kind or kind == "double":
        return False
    if hasattr(values, "isna"):
        return bool(values.isna().any())
    count = getattr(values, "null_count", 0)
    return bool((count() if callable(count) else count) > 0)


def _numbers(name: str, values: list[Any]) -> np.ndarray | None:
    """Python's numbers or truth values as an array; None if they are texts.

    Raises `InvalidValue` for a null, and for values of several types.
    """
    families = {kind: _family(kind) for kind in set(map(type, values))}
    found = set(families.values())
    if found <= {"integer", "float"}:
        array = np.array(values)
        if found == {"integer"} and array.dtype.kind not in "iu":  # NumPy would make floats of integers above int64
            outside = (
                i for i, value in enumerate(values) if not (0 if max(values) >= 2**63 else -(2**63)) <= value < 2**64
            )
            if (row := next(outside, None)) is not None:
                raise InvalidValue(
                    f"column {name!r}: row {row} is {values[row]}, which with the others fits neither int64 nor uint64. Use texts."
                )
            return np.array(values, np.uint64)
        if found == {"integer", "float"}:
            _check_whole(name, values)
        return array.astype(np.float64) if array.dtype.kind == "O" else array
    if found == {"truth value"}:
        return np.array(values, np.bool_)
    if found != {"text"}:
        _refuse(name, values, families)
    for row, text in enumerate(values) if not _is_utf8(values) else ():
        if not _is_utf8([text]):
            raise InvalidValue(f"column {name!r}: row {row} is {text!r}, which UTF-8 cannot encode. Replace it.")
    return None


def _check_whole(name: str, values: list[Any]) -> None:
    """Raise `InvalidValue` for an integer, among floats, that would be rounded."""
    for value in values:
        if isinstance(value, numbers.Integral) and (abs(value) >> 1023 or float(value) != value):  # type: ignore[operator]
            raise InvalidValue(
                f"column {name!r}: integers beside floats, of which no float is {value}. Use texts, or round them yourself."
            )


def _refuse(name: str, values: list[Any], families: Mapping[type, str]) -> NoReturn:
    """Raise `InvalidValue` for the first value that is null, of no type that a column holds, or of another type than the first."""
    first = families[type(values[0])]
    for row, value in enumerate(values):
        family = families[type(value)]
        if family == "null" or (family == "float" and value != value and first != "float"):
            raise InvalidValue(
                f"column {name!r}: row {row} is null ({value!r}), and only floats may be NaN. Give it a value of its own, such as "
                "'unknown' or -1; among floats, float('nan')."
            )
        alike = family == first or {first, family} == {"integer", "float"}
        if not alike or family not in _FAMILIES:
            before = "" if row == 0 else f", row 0 is {values[0]!r}"
            raise InvalidValue(f"column {name!r}: row {row} is {value!r}{before}. {_HOLDS}: cast them to one type.")
    raise AssertionError("all are of one type")


def _family(kind: type) -> str:
    if issubclass(kind, (bool, np.bool_)):
        return "truth value"
    if issubclass(kind, numbers.Integral):
        return "integer"
    if issubclass(kind, (float, np.floating)):
        return "float"
    if issubclass(kind, str):
        return "text"
    return "null" if kind is type(None) or kind.__name__ in ("NAType", "NaTType") else kind.__name__


def _is_utf8(texts: list[str]) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _cast(array: np.ndarray) -> str:
    return {"S": "'U'", "c": "'float64'", "M": "'int64'", "m": "'int64'"}.get(array.dtype.kind, "'float64'")
