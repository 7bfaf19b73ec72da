"""Read a file without copying it, on any file system, whatever lies there in its place."""

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
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return np.frombuffer(_buffer(descriptor, about.st_size), np.uint8) if about.st_size else np.empty(0, np.uint8)
    finally:
        os.close(descriptor)


def _buffer(descriptor: int, size: int) -> mmap.mmap | bytes:
    try:  # private: not every file system can share a mapping, and nobody writes to this one
        return mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
    except OSError:
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
