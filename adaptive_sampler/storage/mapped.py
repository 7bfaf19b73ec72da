"""Read a file, if possible without copying it, on any file system, whatever lies there in its place."""

import errno
import mmap
import os
import stat
from pathlib import Path

import numpy as np


def mapped(path: Path) -> np.ndarray:
    """The bytes of a file, (size,) uint8, read-only: memory-mapped, or read where the file system cannot map it.

    Raises `OSError`, also for what is no regular file: a pipe in its place would make a reader wait for ever.
    """
    descriptor, size = _opened(path)
    try:
        if not size:
            return np.empty(0, np.uint8)
        try:  # private: not every file system can share a mapping, and nobody writes to this one
            data: mmap.mmap | bytes = mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
        except OSError:
            data = _read(descriptor)
        return np.frombuffer(data, np.uint8)
    finally:
        os.close(descriptor)


def contents(path: Path) -> bytes:
    """The bytes of a small file. Raises as `mapped` does."""
    descriptor, _ = _opened(path)
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> tuple[int, int]:
    """A descriptor of a regular file, and its size."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor, about.st_size


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        return file.read()
