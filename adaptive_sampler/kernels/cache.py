"""Numba's cache of compiled kernels on disk, which here notices a change in any file of this folder."""

import contextlib
import hashlib
from functools import cache
from typing import Any

from adaptive_sampler.kernels.private import say


def keep(made: Any, function: Any) -> None:
    """Have what Numba `made` of the function kept on disk, and read from there. Where no folder can be written (a read-only
    install with no home), each process compiles instead, silently."""
    try:
        made._cache = _forgiving()(function)
    except (RuntimeError, OSError):  # there is no place for a cache
        pass
    except Exception as error:  # a name that only an object has, so that nobody could look for it before
        say(f"keeps compiled code in another way ({error})")


@cache
def _sources() -> bytes:
    """A checksum of all sources of this folder.

    Numba's own stamp is that of the file which a kernel is in. But the machine code of a kernel holds that of all it
    calls, in whatever file that is.
    """
    from importlib.resources import files

    found = hashlib.sha256()
    for file in sorted(files(__package__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            source = file.read_bytes()
            found.update(f"{file.name} {len(source)} ".encode() + source)
    return found.digest()


@cache
def _forgiving() -> Any:
    """Numba's cache, whose faults are no faults of the call: what cannot be read from it, damaged as it may be, is compiled,
    and what cannot be kept, on a full disk, is not.

    Before it reads anything, Numba's own loads all that it could compile with, and scipy where that is installed, which
    takes as long as its import. Machine code needs its runtime alone; the rest is loaded when something is compiled.
    """
    from numba.core.caching import FunctionCache
    from numba.core.runtime import rtsys

    class Forgiving(FunctionCache):  # type: ignore[misc]
        def __init__(self, function: Any) -> None:
            super().__init__(function)
            self._cache_file._source_stamp = self._cache_file._source_stamp, _sources()

        def load_overload(self, signature: Any, target_context: Any) -> Any:
            with contextlib.suppress(Exception):
                rtsys.initialize(target_context)
                return self._load_overload(signature, target_context)
            with contextlib.suppress(Exception):
                self.flush()  # so that what is compiled now can be kept
            return None

        def save_overload(self, *arguments: Any) -> None:
            with contextlib.suppress(Exception):
                super().save_overload(*arguments)

    return Forgiving
