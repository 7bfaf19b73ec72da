"""Where a path points: a folder, or a place that its scheme names."""

import os
from urllib.parse import unquote

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.storage.base import Storage
from adaptive_sampler.storage.in_memory import SCHEME, MemoryStorage
from adaptive_sampler.storage.local import LocalStorage

_in_memory: dict[str, MemoryStorage] = {}  # by name, for as long as the process lives


def storage_at(path: str | os.PathLike[str]) -> Storage:
    """The storage that `path` names: a folder (also as "file:///…"), or "memory://name", which is this process's own.

    Raises `InvalidValue` for another scheme: taken for a folder it would be kept somewhere unexpected without a word.
    """
    scheme, separator, name = os.fspath(path).partition("://")
    if not separator:
        return LocalStorage(path)
    if scheme == "file" and name.startswith("/"):
        return LocalStorage(unquote(name))
    if scheme != SCHEME or not name:
        raise InvalidValue(
            f"path={os.fspath(path)!r}: scores are kept in a folder or, while the process lives, in 'memory://name'. Pass a "
            "folder (a mounted bucket is one), or storage= with a Storage of your own."
        )
    return _in_memory.setdefault(name, MemoryStorage(name))
