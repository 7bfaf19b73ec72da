"""Which storage a path names: a folder, or the kind of storage that the path's scheme stands for."""

import os
from pathlib import Path
from urllib.parse import unquote

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.storage.base import Storage
from adaptive_sampler.storage.in_memory import SCHEME, MemoryStorage
from adaptive_sampler.storage.local import LocalStorage

_in_memory: dict[str, MemoryStorage] = {}  # by name, for as long as the process lives

Place = str | os.PathLike[str] | None  # where a store is; None: in a temporary folder


def storage_at(path: str | os.PathLike[str]) -> Storage:
    """The storage that `path` names: a folder, also as "file:///…", or "memory://name", in the memory of this process.

    Raises `InvalidValue` for any other scheme, which would otherwise silently become the name of a folder.
    """
    scheme, separator, name = os.fspath(path).partition("://")
    if not separator:
        return LocalStorage(path)
    if scheme == "file" and name.startswith("/"):
        return LocalStorage(unquote(name))
    if scheme != SCHEME or not name:
        raise InvalidValue(
            f"path={os.fspath(path)!r}: scores and indexes are kept in a folder or, while the process lives, in 'memory://name'. "
            "Pass a folder (a mounted bucket is one); a ScoreStore also takes storage= with a Storage of your own."
        )
    return _in_memory.setdefault(name, MemoryStorage(name))


def path_of(storage: Storage) -> Path | str:
    """The folder of a storage, or the name of one that is no folder: what `storage_at` takes."""
    return storage.path if isinstance(storage, LocalStorage) else storage.where
