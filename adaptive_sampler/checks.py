"""Checks of arguments that many functions share, so that the same fault gets the same message everywhere."""

from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue


def whole_number(
    name: str, value: Any, least: int, *, most: int | None = None, what: str = "a whole number", otherwise: str = ""
) -> int:
    """Check a whole number and return it as an int.

    Raises `InvalidValue` unless `value` is an int, not a bool, from `least` to `most` (None: no upper limit). For the
    message, `name` is the argument's name, `what` says what the number counts, and `otherwise` is added at the end: what
    else may be passed, or why the number is needed.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upper = "" if most is None else f", {most} at most"
        raise InvalidValue(f"{name}={value!r}: {what}, {least} or more{upper}{otherwise}.")
    return int(value)
