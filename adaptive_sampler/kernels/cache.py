"""Numba's cache of compiled kernels on disk, which here notices a change in any file of this folder; and what a user is
told of it: that a first run waits, and for how long."""

import contextlib
import hashlib
import logging
from functools import cache
from typing import Any

from adaptive_sampler.kernels.private import say

KEPT: list[str] = []  # the folders in which this process keeps compiled kernels, or finds them
LOST: list[str] = []  # why some could not be kept
_LONG = "10 to 20 s in all"


def keep(made: Any, function: Any) -> None:
    """Have what Numba `made` of the function kept on disk, and read from there. Where no folder can be written (a read-only
    install with no home), each process compiles instead."""
    try:
        made._cache = _forgiving()(function)
        if made._cache.cache_path not in KEPT:
            KEPT.append(made._cache.cache_path)
    except (RuntimeError, OSError):  # there is no place for a cache
        _tell(
            f"adaptive_sampler compiles its kernels in every process ({_LONG}): no folder for them can be written. Set "
            "NUMBA_CACHE_DIR to one that can, and it does so once."
        )
    except Exception as error:  # a name that only an object has, so that nobody could look for it before
        say(f"keeps compiled code in another way ({error})")


@cache
def _tell(words: str) -> None:
    """Say it once in a process, and in no worker: the user waits for all of them, and would read it from each."""
    from multiprocessing import parent_process

    if parent_process() is None:
        logging.getLogger("adaptive_sampler").warning(words)


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
            found = None
            try:
                rtsys.initialize(target_context)
                found = self._load_overload(signature, target_context)
            except Exception:
                with contextlib.suppress(Exception):
                    self.flush()  # so that what is compiled now can be kept
            if found is None:
                _tell(
                    f"adaptive_sampler compiles its kernels once ({_LONG}); later runs load them from {self.cache_path}. To do "
                    "so ahead: adaptive-sampler compile"
                )
            return found

        def save_overload(self, *arguments: Any) -> None:
            try:
                super().save_overload(*arguments)
            except Exception as error:
                LOST.append(f"{self.cache_path}: {error}")

    return Forgiving
