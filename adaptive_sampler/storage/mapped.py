"""Read a file, if possible without copying it, on any file system, whatever lies there in its place."""

import ctypes
import errno
import mmap
import os
import stat
import weakref
from pathlib import Path

import numpy as np

FAILED = ctypes.c_void_p(-1).value
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def mapped(path: Path) -> np.ndarray:
    """The bytes of a file, (size,) uint8, read-only: memory-mapped, or read where the file system cannot map it.

    Raises `OSError`, also for what is no regular file: a pipe in its place would make a reader wait for ever.
    """
    descriptor, size = _opened(path)
    try:
        if not size:
            return np.empty(0, np.uint8)
        try:
            return map_file(descriptor, size)
        except OSError:
            return np.frombuffer(_read(descriptor), np.uint8)
    finally:
        os.close(descriptor)


def map_file(descriptor: int, size: int) -> np.ndarray:
    """The first `size` bytes of an open file, mapped for as long as an array shows them; the file may be closed.

    Python's own mmap keeps a descriptor of each file, of which a process has 1024 by default, and large columns are of
    more files than that. The map is private: not every file system can share one, and nobody writes to it.
    """
    start = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, descriptor, 0)
    if start == FAILED:
        raise OSError(code := ctypes.get_errno(), os.strerror(code))
    memory = (ctypes.c_ubyte * size).from_address(start)
    weakref.finalize(memory, libc.munmap, start, size).atexit = False  # somebody may read until the very end
    return np.frombuffer(memoryview(memory).toreadonly(), np.uint8)


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
