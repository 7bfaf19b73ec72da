"""The one place for Numba and its flags: serial, without the GIL, compiled at the first call, cached where possible."""

import contextlib
import logging  # noqa: F401 - Numba does, which while a fork waits would leave it with half of its own fork hooks
import os
import threading
from collections.abc import Callable
from functools import cache, update_wrapper
from types import FunctionType
from typing import Any

from adaptive_sampler.kernels.cache import keep
from adaptive_sampler.kernels.private import complete, rewired, say

# Held while a kernel is called for the first time and while the process forks; then Numba's own, once it is imported. A
# child that was forked amid an import or a compilation of another thread's would wait for that thread, which it has not.
_LOCKS: list[Any] = [threading.RLock()]
_HELD: list[Any] = []  # by the process that forks


class Kernel:
    """A function that Numba compiles when it is first called. Numba is not even imported before: that takes longer than
    importing all of this package, and a loader's worker or `--help` calls no kernel.
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
            try:
                found = made(*arguments)
            except MemoryError:  # it had begun, and arrays may have changed: no second time
                raise
            except Exception as error:
                made, found = self._again(made, arguments, error)
            if _numbas_lock():  # else every call stays behind ours, as any may compile
                self._call = made
        return found

    def _again(self, failed: Any, arguments: tuple[Any, ...], error: Exception) -> tuple[Any, Any]:
        """(what was made, what it found) without what is Numba's own affair, where that is why it `failed`."""
        if isinstance(failed, FunctionType) or failed is self.plain():
            raise error
        try:
            found = self.plain()(*arguments)
        except Exception:
            raise error from None  # it is the arguments'
        vars(self)["_compiled"] = self.plain()
        say(f"no longer compiles {self._function.__name__} as it is written ({_cause(error)})")
        return self.plain(), found

    def _made(self) -> Any:
        """What Numba makes of the function. Takes no lock: it is asked for while one of Numba's is held."""
        if not self.compiled:
            vars(self).setdefault("_compiled", self._kept())
        return vars(self)["_compiled"]

    def _kept(self) -> Any:
        made = _compiled(self._function)
        if made is self._function:  # NUMBA_DISABLE_JIT is set
            return made
        _numbas_lock()
        if not complete():
            return self.plain()
        keep(made, self._function)
        return made

    def plain(self) -> Any:
        """What Numba makes of the function without any of its private names: all of it anew, in every process."""
        if "_plain" not in vars(self):
            vars(self).setdefault("_plain", _compiled(rewired(self._function)))
        return vars(self)["_plain"]

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
    """LLVM's instructions as a function that kernels call, made when Numba first compiles one that does. `plain_kernel` is
    its twin, for a Numba or an LLVM that no longer understands how it is defined."""

    def __init__(self, define: Callable[..., Any], plain_kernel: Callable[..., Any]) -> None:
        update_wrapper(self, define)
        self._define = define
        self._plain_kernel = plain_kernel

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(
            f"{self._define.__name__} is an instruction of LLVM's: only a kernel can call it, and only a compiled one. Where "
            "NUMBA_DISABLE_JIT=1 is set, nothing is compiled: unset it."
        )

    def plain(self) -> Any:
        """The twin, as Numba makes it."""
        assert isinstance(self._plain_kernel, Kernel)
        return self._plain_kernel.plain()

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
    """Compile `function` lazily, serial and without the GIL. It may call kernels and intrinsics by their bare names."""
    return Kernel(function)


def instructions(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Intrinsic]:
    """Define an intrinsic by how Numba is to type and write it, beside its `twin`, a kernel of the same meaning."""
    return lambda define: Intrinsic(define, twin)


def _compiled(function: Any) -> Any:
    """Serial, because a `parallel=True` kernel that ran before `fork` kills the forked DataLoader worker under OpenMP,
    Numba's default layer."""
    import numba

    return numba.njit(nogil=True, error_model="numpy")(function)


@cache
def compiles() -> bool:
    """Whether Numba compiles: where NUMBA_DISABLE_JIT=1 is set, no kernel runs that calls an `Intrinsic`."""
    import numba

    return not numba.config.DISABLE_JIT


def _cause(error: BaseException) -> str:
    """Where an error began, in one line: Numba reports what went wrong in its own words, many of them."""
    while before := error.__cause__ or error.__context__:
        error = before
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@cache
def _numbas_lock() -> bool:
    """Whether Numba's lock of compilations is there, and taken by whoever forks from now on."""
    with contextlib.suppress(ImportError):
        from numba.core.compiler_lock import global_compiler_lock as lock

        if hasattr(lock, "acquire") and hasattr(lock, "release"):
            _LOCKS.append(lock)
            return True
    return False


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
