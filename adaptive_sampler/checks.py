"""Rules that arguments of many functions share, asked in one place and refused in the same words."""

from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue


def whole_number(
    name: str, value: Any, least: int, *, most: int | None = None, what: str = "a whole number", otherwise: str = ""
) -> int:
    """`value` as an int. Raises `InvalidValue` unless it is a whole number from `least` to `most`; a bool is none.

    `what`: what it counts, in words; `otherwise`: what else may be passed, or why.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upper = "" if most is None else f", {most} at most"
        raise InvalidValue(f"{name}={value!r}: {what}, {least} or more{upper}{otherwise}.")
    return int(value)
