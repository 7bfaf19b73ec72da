"""Files that appear whole or not at all, and the checksum by which a later reader knows that they still are."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

PARTIAL = ".partial"  # how the name of a file ends that is still being written, or was when its process was killed

Bytes = np.ndarray | bytes


def checksum(parts: Sequence[Bytes]) -> int:
    """crc32c of the concatenated parts."""
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, _octets(part))
    return crc


def _octets(part: Bytes) -> Bytes:
    """An array's memory as uint8, bytes as they are; without a copy where the array is contiguous."""
    return part if isinstance(part, bytes) else np.ascontiguousarray(part).reshape(-1).view(np.uint8)


@contextlib.contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which is renamed to `path` when the block ends without an error: a reader finds the old file or
    the new one, never half. `lasting`: it is on the disk by then, though its folder may still have to be synced.
    """
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")  # several may write one path at a time
    try:
        with open(unfinished, "wb") as file:
            yield file
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def write_whole(path: Path, parts: Sequence[Bytes], *, lasting: bool = True) -> None:
    """The concatenated `parts` as a file at `path`, as `whole_file` says."""
    with whole_file(path, lasting=lasting) as file:
        for part in parts:
            octets = _octets(part)
            file.write(octets if isinstance(octets, bytes) else octets.data)


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
