"""The one place for Numba and its flags: serial, without the GIL, compiled at the first call, cached where possible."""

from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import Any


class Kernel:
    """A function that Numba compiles when it is first called, and hears of no sooner: importing Numba takes longer than all
    of this package, and who starts a loader's worker or asks for `--help` calls no kernel.
    """

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
        import numba

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


class Intrinsic:
    """LLVM's instructions as a function that kernels call, made when Numba first compiles one that does."""

    def __init__(self, define: Callable[..., Any]) -> None:
        update_wrapper(self, define)
        self._define = define

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(f"{self._define.__name__} is an instruction of LLVM's: only a kernel can call it.")

    @cached_property
    def _numba_type_(self) -> Any:
        """What Numba asks for where a kernel calls this."""
        from numba.core.registry import cpu_target
        from numba.extending import intrinsic

        made = intrinsic(self._define)
        cpu_target.typing_context.refresh()  # so that it knows what was made just now
        return cpu_target.typing_context.resolve_value_type(made)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` lazily, serial and without the GIL."""
    return Kernel(function)
