"""The one place for Numba and its flags: serial, without the GIL, compiled at the first call, cached where possible."""

import contextlib
import logging  # noqa: F401 - Numba does, which while a fork waits would leave it with half of its own fork hooks
import os
import threading
from collections.abc import Callable
from functools import cache, update_wrapper
from typing import Any

# Held while a kernel is called for the first time and while the process forks; then Numba's own, once it is imported. A
# child that was forked amid an import or a compilation of another thread's would wait for that thread, which it has not.
_LOCKS: list[Any] = [threading.RLock()]
_HELD: list[Any] = []  # by the process that forks


class Kernel:
    """A function that Numba compiles when it is first called, and hears of no sooner: importing Numba takes longer than all
    of this package, and who starts a loader's worker or asks for `--help` calls no kernel.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self._function = function
        self._call: Callable[..., Any] = self._first

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def _first(self, *arguments: Any) -> Any:
        with _LOCKS[0]:
            made = self._made()
            found = made(*arguments)
            self._call = made
        return found

    def _made(self) -> Any:
        """What Numba makes of the function. Takes no lock: it is asked for while one of Numba's is held."""
        if not self.compiled:
            vars(self).setdefault("_compiled", _compiled(self._function))
        return vars(self)["_compiled"]

    @property
    def compiled(self) -> bool:
        """Whether it has been called."""
        return "_compiled" in vars(self)

    @property
    def stats(self) -> Any:
        """Numba's counts of what was read from its cache, and what was compiled because it was not there."""
        return self._made().stats

    @property
    def _numba_type_(self) -> Any:
        """What Numba asks for where one kernel calls another."""
        return self._made()._numba_type_


class Intrinsic:
    """LLVM's instructions as a function that kernels call, made when Numba first compiles one that does."""

    def __init__(self, define: Callable[..., Any]) -> None:
        update_wrapper(self, define)
        self._define = define

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(
            f"{self._define.__name__} is an instruction of LLVM's: only a kernel can call it, and only a compiled one. Where "
            "NUMBA_DISABLE_JIT=1 is set, nothing is compiled: unset it."
        )

    @property
    def _numba_type_(self) -> Any:
        """What Numba asks for where a kernel calls this."""
        if "_made" not in vars(self):
            from numba.core.registry import cpu_target
            from numba.extending import intrinsic

            made = intrinsic(self._define)
            cpu_target.typing_context.refresh()  # so that it knows what was made just now
            vars(self).setdefault("_made", cpu_target.typing_context.resolve_value_type(made))
        return vars(self)["_made"]


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` lazily, serial and without the GIL."""
    return Kernel(function)


def _compiled(function: Callable[..., Any]) -> Any:
    """Serial, because a `parallel=True` kernel that ran before `fork` kills the forked DataLoader worker under OpenMP,
    Numba's default layer. Where no cache directory can be written (a read-only install with no home), the kernel compiles
    once a process instead, silently.
    """
    import numba

    made = numba.njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(RuntimeError):  # there is no place for a cache
        made._cache = _forgiving()(function)
    return made


@cache
def _forgiving() -> Any:
    """Numba's cache, whose faults are no faults of the call: what cannot be read from it, damaged as it may be, is compiled,
    and what cannot be kept, on a full disk, is not.

    Before it reads anything, Numba's own loads all that it could compile with, and scipy where that is installed, which
    takes as long as its import. Machine code needs its runtime alone; the rest is loaded when something is compiled.
    """
    from numba.core.caching import FunctionCache
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.runtime import rtsys

    class Forgiving(FunctionCache):  # type: ignore[misc]
        def load_overload(self, signature: Any, target_context: Any) -> Any:
            with contextlib.suppress(Exception), self._guard_against_spurious_io_errors():
                rtsys.initialize(target_context)
                return self._load_overload(signature, target_context)
            with contextlib.suppress(Exception):
                self.flush()  # so that what is compiled now can be kept
            return None

        def save_overload(self, *arguments: Any) -> None:
            with contextlib.suppress(Exception):
                super().save_overload(*arguments)

    _LOCKS.append(global_compiler_lock)
    return Forgiving


def _hold() -> None:
    for lock in _LOCKS:
        lock.acquire()
        _HELD.append(lock)


def _release() -> None:
    held = _HELD[::-1]
    _HELD.clear()  # first: when the last one is released, another thread may fork
    for lock in held:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)
