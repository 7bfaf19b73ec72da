"""Write files that appear whole or not at all, and compute the checksums that show later whether they are unchanged."""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

PARTIAL = ".partial"  # the suffix of a file that is still being written, or whose writer was killed

FULL = {errno.ENOSPC, errno.EDQUOT}  # there is no room, or no more for this user
NO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

Bytes = np.ndarray | bytes


def checksum(parts: Sequence[Bytes], crc: int = 0) -> int:
    """The CRC-32C of the concatenated parts, as an int. `crc`: that of what comes before them."""
    for part in parts:
        crc = google_crc32c.extend(crc, _octets(part))
    return crc


def nbytes(parts: Sequence[Bytes]) -> int:
    """The size of the concatenated parts."""
    return sum(len(part) if isinstance(part, bytes) else part.nbytes for part in parts)


def _octets(part: Bytes) -> Bytes:
    """An array's memory as uint8, without a copy if the array is contiguous; bytes are returned as they are."""
    return part if isinstance(part, bytes) else np.ascontiguousarray(part).reshape(-1).view(np.uint8)


@contextlib.contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write to; it is renamed to `path` when the block ends without an error.

    A reader finds the old file or the new one, never half of one. `lasting`: the content is on the disk before the rename;
    for the rename itself to survive a power cut, the folder must still be synced (`sync`).
    """
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")  # unique: others may write `path` too
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
    """Write the concatenated `parts` to a file at `path`, as `whole_file` does."""
    with whole_file(path, lasting=lasting) as file:
        for part in parts:
            octets = _octets(part)
            file.write(octets if isinstance(octets, bytes) else octets.data)


def sync(path: Path) -> None:
    """Return once a file's content, or a folder's list of file names, is on the disk (fsync).

    Some network file systems (CIFS, vboxsf) cannot sync a folder and say so. That is ignored, as Git and SQLite do; any
    other error raises, and any error of a file.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)
