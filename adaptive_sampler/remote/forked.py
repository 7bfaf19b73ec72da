"""Makes obstore usable in a process that was forked from one that had used it."""

import importlib
import os
import shutil
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from typing import Any

_NATIVE = "obstore._obstore"


class Forked:
    """Whether this process was forked from one that had loaded obstore, and the way out.

    obstore's requests run on threads that a fork does not copy: in the child each of them, with any store, would wait for
    ever (obstore 0.12.1). All that it keeps belongs to its compiled library, so that a second copy of the library works:
    it has threads of its own. It is loaded from memory, because the system gives a file that it has loaded already again.
    """

    def __init__(self) -> None:
        self._file: str | None = None  # of the library, as the first process found it
        self._stale = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after)

    def _after(self) -> None:
        if "obstore._obstore" in sys.modules:
            self._file = self._file or sys.modules["obstore._obstore"].__file__
            self._stale = True

    def renew(self) -> None:
        """Load a fresh copy of obstore, if the one in memory is the parent's. Raises RuntimeError where that is impossible."""
        if not self._stale:
            return
        if not hasattr(os, "memfd_create") or self._file is None:
            raise RuntimeError(
                "this process was forked from one that had used obstore, which then waits for ever. Start workers by spawn or "
                'forkserver: DataLoader(..., multiprocessing_context="spawn").'
            )
        for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
            sys.modules.pop(name)
        copy = os.memfd_create("obstore")
        with open(self._file, "rb") as source, open(copy, "wb", closefd=False) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        finder = _Copy(f"/proc/self/fd/{copy}")
        sys.meta_path.insert(0, finder)
        try:
            importlib.import_module("obstore.store")
        finally:
            sys.meta_path.remove(finder)
            os.close(copy)
        self._stale = False


class _Copy:
    """Finds obstore's library in another file."""

    def __init__(self, file: str) -> None:
        self._file = file

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The place of the module `name`, None for every other one."""
        if name != _NATIVE:
            return None
        return spec_from_file_location(name, self._file, loader=ExtensionFileLoader(name, self._file))
