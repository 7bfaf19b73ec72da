"""Which storage a path names: a folder, or the kind of storage that the path's scheme stands for."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.remote.connect import SCHEMES
from adaptive_sampler.storage.base import Storage
from adaptive_sampler.storage.in_memory import SCHEME, MemoryStorage
from adaptive_sampler.storage.local import LocalStorage

_in_memory: dict[str, MemoryStorage] = {}  # by name, for as long as the process lives

Place = str | os.PathLike[str] | None  # where a store is; None: in a temporary folder
Options = Mapping[str, Any] | None  # of an object store: see `remote.connect.connect`


def storage_at(path: str | os.PathLike[str], options: Options = None) -> Storage:
    """The storage that `path` names: a folder, also as "file:///…"; "s3://…", "gs://…", "az://…" for an object store, and
    "https://…" to read; or "memory://name", in the memory of this process.

    Raises `InvalidValue` for any other scheme, which would otherwise silently become the name of a folder, for `options`
    without an object store, and for those that it does not take.
    """
    scheme, separator, name = os.fspath(path).partition("://")
    if separator and scheme != SCHEME and scheme.lower() in SCHEMES:
        from adaptive_sampler.storage.objects import ObjectStorage  # imported late: who stays local needs no part of it

        return ObjectStorage(os.fspath(path), options)
    if options is not None:
        raise InvalidValue(
            f"path={os.fspath(path)!r}, options={sorted(options)}: options are an object store's. Pass them with s3://… alone."
        )
    if not separator:
        return LocalStorage(_folder(path))
    if scheme == "file" and name.startswith("/"):
        return LocalStorage(unquote(name))
    if scheme != SCHEME or not name:
        raise InvalidValue(
            f"path={os.fspath(path)!r}: scores and indexes are kept in a folder, in an object store (s3://, gs://, az://) or, "
            "while the process lives, in 'memory://name'. A ScoreStore also takes storage= with a Storage of your own."
        )
    return _in_memory.setdefault(name, MemoryStorage(name))


def _folder(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The path. Raises `InvalidValue` for a URL that was made a `Path`, which has lost one of its slashes."""
    scheme = re.match(r"([a-z0-9]+):/", os.fspath(path))
    if scheme and scheme[1] in SCHEMES:
        raise InvalidValue(f"path={path!r}: this was a URL before it became a path. Pass it as a string.")
    return path


def path_of(storage: Storage) -> Path | str:
    """The folder of a storage, or the name of one that is no folder: what `storage_at` takes."""
    return storage.path if isinstance(storage, LocalStorage) else storage.where
