"""The one place for Numba and its flags: serial, without the GIL, compiled at the first call, cached where possible."""

from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import Any

import numba


class Kernel:
    """A function that Numba compiles when it is first called, and hears of no sooner: decorating them all takes a while."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._compiled(*arguments)

    @cached_property
    def _compiled(self) -> Callable[..., Any]:
        """Serial, because a `parallel=True` kernel that ran before `fork` kills the forked DataLoader worker under OpenMP,
        Numba's default layer. Where no cache directory can be written (a read-only install with no home), Numba raises
        at decoration; the kernel then compiles once a process instead, silently.
        """
        flags = {"nogil": True, "error_model": "numpy"}
        try:
            return numba.njit(cache=True, **flags)(self._function)  # type: ignore[no-any-return]
        except RuntimeError:
            return numba.njit(**flags)(self._function)  # type: ignore[no-any-return]

    @property
    def compiled(self) -> bool:
        """Whether it has been called."""
        return "_compiled" in vars(self)

    @property
    def stats(self) -> Any:
        """Numba's counts of what was read from its cache, and what was compiled because it was not there."""
        return self._compiled.stats  # type: ignore[attr-defined]

    @property
    def _numba_type_(self) -> Any:
        """What Numba asks for where one kernel calls another."""
        return self._compiled._numba_type_  # type: ignore[attr-defined]


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` lazily, serial and without the GIL."""
    return Kernel(function)
