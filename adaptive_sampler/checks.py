"""Checks and limits of arguments that many functions share, so that the same fault gets the same message everywhere."""

from math import isfinite
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue

LAST_EPOCH = 2**31 - 1  # the epoch in which a row was last seen is stored as an int32


def is_whole(value: Any, least: int = 0, *, most: int | None = None) -> bool:
    """Whether `value` is an int, not a bool, from `least` to `most` (None: no upper limit)."""
    if type(value) is not int and (not isinstance(value, int | np.integer) or isinstance(value, bool)):
        return False
    return bool(value >= least and (most is None or value <= most))


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number, of Python or NumPy, and no bool; of an int, whether a float holds it."""
    plain = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    try:
        return plain and isfinite(value)
    except OverflowError:
        return False


def is_time(value: Any) -> bool:
    """Whether `value` is a moment as JSON has it: a finite number of seconds, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def whole_number(
    name: str, value: Any, least: int, *, most: int | None = None, what: str = "a whole number", otherwise: str = ""
) -> int:
    """Check a whole number and return it as an int.

    Raises `InvalidValue` unless `value` is an int, not a bool, from `least` to `most` (None: no upper limit). For the
    message, `name` is the argument's name, `what` says what the number counts, and `otherwise` is added at the end: what
    else may be passed, or why the number is needed.
    """
    if not is_whole(value, least, most=most):
        upper = "" if most is None else f", {most} at most"
        raise InvalidValue(f"{name}={value!r}: {what}, {least} or more{upper}{otherwise}.")
    return int(value)
