"""Reads shards from a local disk."""

import mmap
import os
import stat
from urllib.parse import unquote, urlsplit

from adaptive_sampler.shards.errors import ShardMissing
from adaptive_sampler.shards.sources.base import missing, unreadable


class LocalSource:
    """A local file, read with `pread`: it shares no position, and raises no SIGBUS if the file shrinks."""

    parallel, together = 0, 1
    merge_gap: int | None = (
        None  # benchmarks/streams.py: reading a sample from the page cache costs less than holding its bytes
    )
    lone_gap = merge_gap

    def __init__(self, url: str) -> None:
        try:
            path = unquote(urlsplit(url).path) if url.startswith("file:") else url
            # Without O_NONBLOCK, opening a named pipe waits for whoever writes to it.
            flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
            self._descriptor = os.open(path, flags)
        except (OSError, ValueError) as error:  # ValueError: the text is no path, or no URL
            raise missing(url, error) from error
        self._url, status = url, os.fstat(self._descriptor)
        if stat.S_ISDIR(status.st_mode):
            self.close()
            raise ShardMissing(
                f"{url}: is a folder, not a shard. Name the shards in it: sorted(Path({path!r}).glob('*.tar')); a handler "
                "that returns True goes on without it."
            )
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise ShardMissing(
                f"{url}: is a pipe or a device, not a file, so that it has no bytes to read again. Write it to a file; a "
                "handler that returns True goes on without it."
            )
        self.size: int | None = status.st_size
        self.stamp = f"{status.st_size} bytes, mtime {status.st_mtime_ns}"

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only at the end of the file. Raises ShardUnreadable if the disk fails."""
        try:
            data = os.pread(self._descriptor, length, start)
            while len(data) < length:  # Linux reads at most 2 GiB at once, and a signal may stop a read early
                more = os.pread(self._descriptor, length - len(data), start + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise unreadable(self._url, start, length, error) from error
        return data

    def expect(self, start: int, stop: int) -> None:
        """Ask the system to fetch bytes start … stop − 1 into its page cache, without waiting for them."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)

    def mapped(self) -> mmap.mmap | None:
        """The file as mapped memory, for the header pass, which needs few pages.

        None for an empty file, and where the system maps no files, as some file systems in user space do not.
        """
        if not self.size:
            return None
        try:
            found = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # ValueError: the file has been emptied since it was opened
            return None
        if hasattr(mmap, "MADV_RANDOM"):
            found.madvise(mmap.MADV_RANDOM)
        return found

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
