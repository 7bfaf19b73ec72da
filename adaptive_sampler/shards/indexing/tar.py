"""Walks a tar archive's headers and says where each regular member's bytes lie; the bodies are not read."""

import mmap
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import numpy as np

from adaptive_sampler.kernels.tar import skim
from adaptive_sampler.shards.errors import ShardDamaged, ShardUnsupported
from adaptive_sampler.shards.sources.access import BLOCK, HEADER_BYTES

_ZEROS = bytes(BLOCK)
_SPACES = b" " * 8
_ADLER = 65521
_RUN = 4096  # members that one call of the kernel finds at most
_TAIL = 64 * 1024  # bytes after the end marker in which no data may follow: a stray zero block would hide it
_REGULAR = b"0\x007"
_EXTENDED = b"LKxXg"
_BODILESS = b"\x00123456"  # links, devices, directories, FIFOs: they have no body, whatever their size field says
_PAX_RECORD = re.compile(rb"(\d+) ([^=]+)=")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}

Read = Callable[[int, int], bytes]
"""(start, length) -> bytes, fewer only at the end. Offsets only ascend, so that a stream can be read this way."""


class Member(NamedTuple):
    """A regular file of an archive; its body is bytes offset … offset + size − 1 of the archive."""

    name: str
    offset: int
    size: int


class _Window:
    """A view that only moves forward: it reads at least `least` bytes at a time, and no byte twice."""

    def __init__(self, read: Read, least: int) -> None:
        self._read, self._least, self._start, self._data = read, least, 0, b""

    def get(self, start: int, length: int) -> bytes:
        here = start - self._start
        if here + length > len(self._data):
            kept = self._data[here:] if here < len(self._data) else b""
            more = self._read(start + len(kept), max(length, self._least) - len(kept))
            self._start, self._data, here = start, kept + more, 0
        return self._data[here : here + length]


def walk(
    read: Read, url: str, size: int | None, mapped: mmap.mmap | None = None, header_bytes: int = HEADER_BYTES
) -> Iterator[Member]:
    """Yield the regular members of the archive at `url`, with the names that tarfile gives them.

    size: bytes of the archive, None if unknown. mapped: the archive as memory, in which a kernel runs ahead over plain
    members, which are most members of most archives. Otherwise at least `header_bytes` are read at a time.

    Understands ustar prefixes, GNU long names, PAX paths and sizes (global ones too) and base-256 sizes.
    Raises ShardDamaged if the archive is cut off or a header's checksum is wrong (tarfile, and with it WebDataset,
    takes a bad header for the end of the archive), and ShardUnsupported for compressed archives and sparse members.
    """
    window = _Window(read, header_bytes)
    common: dict[str, str] = {}
    patches: list[str | dict[str, str]] = []  # for the next member: GNU long names (str), PAX records (dict)
    position = 0
    while True:
        if mapped is not None and not patches and not common:
            position = yield from _skimmed(mapped, position)
        header = window.get(position, BLOCK)
        if len(header) < BLOCK:
            raise _cut(url, position)
        if header == _ZEROS:
            if patches:
                raise _corrupt(url, position, "an extended header without its member")
            return _check_end(window, url, position)
        size_here = _checked_size(header, url, position)
        kind, body = header[156:157], position + BLOCK
        name, length, step = _name(header), size_here, size_here
        if kind in _EXTENDED:
            _extend(kind, window.get(body, _blocks(step)), common, patches, url, position)
        else:
            if patches or common:
                name, length, step = _patched(name, length, common, patches)
                patches = []
            if kind in _REGULAR and not (kind == b"\0" and header[:100].rstrip(b"\0").endswith(b"/")):
                if size is not None and body + length > size:
                    raise _cut(url, position)
                yield Member(name, body, length)
            elif kind == b"S":
                raise _sparse(url, position)
            elif kind in _BODILESS:
                step = 0
        position = body + _blocks(step)


def _skimmed(mapped: mmap.mmap, position: int) -> Generator[Member, None, int]:
    data = np.frombuffer(mapped, np.uint8)
    headers, sizes = np.empty(_RUN, np.int64), np.empty(_RUN, np.int64)
    found = _RUN
    while found == _RUN:
        found, position = skim(data, position, headers, sizes)
        for at, size in zip(headers[:found].tolist(), sizes[:found].tolist(), strict=True):
            yield Member(_text(mapped[at : at + 100]), at + BLOCK, size)
    return position


def _blocks(size: int) -> int:
    return (size + BLOCK - 1) & -BLOCK


def header_is(header: bytes, size: int) -> bool:
    """Whether `header` (512 bytes) has a correct checksum, and a size field that fits a member of `size` bytes."""
    if len(header) != BLOCK:
        return False
    try:
        # The first test is true for nearly every header. A PAX record may replace the size field, which is then 0, or
        # has any value if the size needs more than 11 octal digits.
        said = header[124:135] == b"%011o" % size or number(header[124:136]) in (size, 0) or size >= 8**11
        return said and _sound(header)
    except ValueError:
        return False


def number(field: bytes) -> int:
    """The number in a header's field: octal, or base 256 if its first bit is set. Raises ValueError for neither."""
    if field[0] in (0o200, 0o377):
        value = int.from_bytes(field[1:], "big")
        return value if field[0] == 0o200 else value - (1 << 8 * (len(field) - 1))
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _sound(header: bytes) -> bool:
    # The low half of Adler-32 is 1 + the sum of the bytes (mod 65521), and takes a fifteenth of the time of sum().
    field = header[148:156]
    total = (zlib.adler32(header) & 0xFFFF) - 1 - sum(field) + 8 * 0x20
    stored = number(field)
    if (stored - total) % _ADLER == 0:
        return True
    # Some old tar programs summed signed bytes.
    return stored == sum(b - 256 * (b > 127) for b in header[:148] + header[156:]) + 8 * 0x20


def _checked_size(header: bytes, url: str, position: int) -> int:
    try:
        size = number(header[124:136])
        if size >= 0 and _sound(header):
            return size
    except ValueError:
        pass
    for magic, name in _COMPRESSED.items():
        if position == 0 and header.startswith(magic):
            raise ShardUnsupported(
                f"{url}: compressed with {name}, of which no single sample can be read. "
                "Decompress the shard, or stream it through `selected`."
            )
    raise _corrupt(url, position, "a header whose checksum or size is wrong")


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _name(header: bytes) -> str:
    name = _text(header[:100])
    return f"{_text(header[345:500])}/{name}" if header[345] else name


def _extend(
    kind: bytes,
    body: bytes,
    common: dict[str, str],
    patches: list[str | dict[str, str]],
    url: str,
    position: int,
) -> None:
    """Note an extended header, which describes the next member (L, K, x, X) or all that follow (g)."""
    if kind == b"L":
        patches.append(_text(body))
    elif kind in b"xX":
        patches.append({**common, **_records(body, url, position)})
    elif kind == b"g":
        common.update(_records(body, url, position))


def _records(body: bytes, url: str, position: int) -> dict[str, str]:
    records, at = {}, 0
    while match := _PAX_RECORD.match(body, at):
        length = int(match[1])
        if length == 0:
            raise _corrupt(url, position, "a PAX record of length 0")
        value = body[match.end() : at + length - 1]
        records[match[2].decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at += length
    if any(key.startswith("GNU.sparse.") for key in records):
        raise _sparse(url, position)
    return records


def _patched(
    name: str, stored: int, common: dict[str, str], patches: list[str | dict[str, str]]
) -> tuple[str, int, int]:
    """Apply the extended headers before a member to its header -> (name, bytes of the body, bytes to step over).

    They are applied in reverse order, so that the first one wins.
    """
    step = stored
    name = common["path"].rstrip("/") if "path" in common else name
    size = _integer(common["size"]) if "size" in common else stored
    for patch in reversed(patches):
        if isinstance(patch, str):
            name = patch
        else:
            name = patch["path"].rstrip("/") if "path" in patch else name
            if "size" in patch:
                size = step = _integer(patch["size"])
    return name, size, step


def _integer(value: str) -> int:
    return int(value) if value.isdecimal() else 0


def _check_end(window: _Window, url: str, position: int) -> None:
    """Every reader stops at a block of zeros. Raises ShardDamaged if data follows within `_TAIL` bytes."""
    if window.get(position + BLOCK, _TAIL).strip(b"\0"):
        raise _corrupt(url, position, "a block of zeros with more data behind it")


def _cut(url: str, position: int) -> ShardDamaged:
    return ShardDamaged(
        f"{url}: cut off: what begins at byte {position} is not all there, and no end marker follows. "
        "Fetch or write the shard again; a handler that returns True keeps the samples before it.",
        position,
    )


def _corrupt(url: str, position: int, what: str) -> ShardDamaged:
    return ShardDamaged(
        f"{url}: corrupt: {what}, at byte {position}. "
        "Fetch or write the shard again; a handler that returns True keeps the samples before it.",
        position,
    )


def _sparse(url: str, position: int) -> ShardUnsupported:
    return ShardUnsupported(f"{url}: a sparse member at byte {position}. Pack the shard again without --sparse.")
