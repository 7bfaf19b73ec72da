"""The one place for Numba's flags: serial, without the GIL, compiled at the first call, cached where possible."""

from collections.abc import Callable
from typing import Any

import numba


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` lazily, serial and without the GIL.

    Serial, because a `parallel=True` kernel that ran before `fork` kills the forked DataLoader worker under OpenMP,
    Numba's default layer. Where no cache directory can be written (a read-only install with no home), Numba raises
    at decoration; the kernel then compiles once a process instead, silently.
    """
    flags = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **flags)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(**flags)(function)  # type: ignore[no-any-return]
