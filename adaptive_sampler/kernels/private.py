"""Names of Numba's that its documentation does not promise, looked for before anything relies on them.

A release of Numba may rename any of them. Then kernels do without all of them: nothing is kept on disk, each process
compiles anew, instructions of the processor are spelled out as in `plain`, and one warning says why.
"""

import warnings
from functools import cache
from pkgutil import resolve_name
from types import CellType, FunctionType
from typing import Any

UNTESTED = "0.69"  # the first release of Numba that the tests have not run with
_NAMES = (
    "numba.core.caching:FunctionCache.load_overload",
    "numba.core.caching:FunctionCache.save_overload",
    "numba.core.caching:FunctionCache._load_overload",
    "numba.core.caching:FunctionCache.flush",
    "numba.core.compiler_lock:global_compiler_lock.acquire",
    "numba.core.compiler_lock:global_compiler_lock.release",
    "numba.core.registry:cpu_target.typing_context.refresh",
    "numba.core.registry:cpu_target.typing_context.resolve_value_type",
    "numba.core.runtime:rtsys.initialize",
)
_SAID: list[str] = []  # what was warned of in this process


@cache
def complete() -> bool:
    """Whether this Numba has all the names; says what is missing. Imports Numba."""
    import numba

    missing = [name.replace(":", ".") for name in _NAMES if not _there(name)]
    made = numba.njit(_nothing)
    missing += [f"numba.njit(…).{name}" for name in ("_cache", "_numba_type_") if not hasattr(made, name)]
    if not missing and not _asked(made):
        missing.append("_numba_type_, asked of an object of another type")
    if missing:
        say(f"has no {', '.join(missing)}")
    return not missing


def say(lacks: str) -> None:
    """Warn, once in a process, of what this Numba `lacks`."""
    if _SAID:
        return
    _SAID.append(lacks)
    import numba

    warnings.warn(
        f"Numba {numba.__version__} {lacks}. So functions of adaptive_sampler are compiled anew in every process, and some run "
        "slower; results are the same. Install a release of Numba that adaptive_sampler was tested with, "
        f"pip install 'numba<{UNTESTED}', or a newer adaptive_sampler.",
        RuntimeWarning,
        stacklevel=2,
    )


def _there(name: str) -> bool:
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def _nothing() -> None:
    pass


class _Stranger:
    """Numba knows nothing of it but the one name."""

    def __init__(self, made: Any) -> None:
        self._numba_type_ = made._numba_type_


def _asked(made: Any) -> bool:
    """Whether Numba asks an object that it does not know for its `_numba_type_`."""
    import numba

    try:
        return bool(numba.typeof(_Stranger(made)) == made._numba_type_)
    except ValueError:
        return False


def rewired(function: Any) -> Any:
    """The function with `plain()` of whatever has it in place of each global and each variable of an outer function.

    So Numba meets only what it made itself, and need not ask anything for its type.
    """
    given = function.__globals__
    own = {name: _plain(given[name]) for name in function.__code__.co_names if name in given}
    cells = tuple(CellType(_plain(cell.cell_contents)) for cell in function.__closure__ or ())
    return FunctionType(function.__code__, given | own, function.__name__, function.__defaults__, cells)


def _plain(value: Any) -> Any:
    return value.plain() if hasattr(type(value), "plain") else value
