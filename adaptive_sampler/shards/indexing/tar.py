"""Walks a tar archive's headers and says where each regular member's bytes lie; the bodies are not read."""

import mmap
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import numpy as np

from adaptive_sampler.kernels.tar import skim
from adaptive_sampler.shards.errors import ShardDamaged, ShardUnsupported, reraise
from adaptive_sampler.shards.indexing.extended import EXTENDED, Extended, is_sparse, text
from adaptive_sampler.shards.sources.access import BLOCK, HEADER_BYTES

_ZEROS = bytes(BLOCK)
_ADLER = 65521
_RUN = 4096  # members that one call of the kernel finds at most
_TAIL = 64 * 1024  # bytes after the end marker in which no data may follow: a stray zero block would hide it
_RECORD = 20 * BLOCK  # what most writers fill up with zeros at the end
_POSIX = b"ustar\0"
_MAGIC = 257  # where it stands
_REGULAR = b"0\x007"
_BODILESS = b"\x00123456"  # links, devices, directories, FIFOs: they have no body, whatever their size field says
_LINKS = {b"1": "a hard link", b"2": "a symbolic link"}
_NOTHING: dict[str, str] = {}
_WITHOUT_LINKS = "Pack with GNU tar's --dereference --hard-dereference"
_ZIP = b"PK\x03\x04"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}

Read = Callable[[int, int], bytes]
"""(start, length) -> bytes, fewer only at the end. Offsets only ascend, so that a stream can be read this way."""

Memory = Callable[[int], tuple[bytes | mmap.mmap, int]]
"""An offset -> (what is in memory of the archive there, perhaps nothing; the offset of its first byte)."""


class Member(NamedTuple):
    """A regular file of an archive; its body is bytes offset … offset + size − 1 of the archive."""

    name: str
    offset: int
    size: int


class NoRange(NamedTuple):
    """Why a file of an archive is no range of its bytes: the words for it in an error, and how to pack instead."""

    what: str
    remedy: str


_SPARSE = NoRange(
    "a sparse file: its bytes are kept without the holes",
    "Pack with bsdtar's --no-read-sparse, or with GNU tar and no --sparse",
)


class Rangeless(NamedTuple):
    """A sparse file or a link of an archive, whose header ends at byte `offset`."""

    name: str
    offset: int
    why: NoRange


Described = tuple[Member | Rangeless | None, int, int]
"""The member, None if it is no file or link; the byte behind its body; where the next header is."""


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
    read: Read,
    url: str,
    size: int | None,
    memory: Memory | None = None,
    header_bytes: int = HEADER_BYTES,
    behind_end: Callable[[ShardDamaged], object] = reraise,
    position: int = 0,
) -> Iterator[Member | Rangeless]:
    """Yield the regular members of the archive at `url`, and links and sparse files, with the names that GNU tar gives.

    size: bytes of the archive, None if unknown. memory: what is in memory, where a kernel runs ahead over plain members, which
    are most members of most archives. Otherwise at least `header_bytes` are read at a time, from the header at `position` on.
    behind_end: gets the error if data follow a whole end marker: what comes before them is not in doubt.

    Understands ustar prefixes, GNU long names, PAX paths and sizes (global ones too) and base-256 sizes.
    Raises ShardDamaged if the archive is cut off or a header's checksum is wrong (tarfile, and with it WebDataset,
    takes a bad header for the end of the archive), and ShardUnsupported for compressed archives.
    """
    window, extended = _Window(read, header_bytes), Extended()
    while True:
        if memory is not None and not extended:
            position = yield from _skimmed(*memory(position), position)
        header = window.get(position, BLOCK)
        if len(header) < BLOCK:
            raise _cut(url, position)
        if header == _ZEROS:
            if extended.pending:
                raise _corrupt(url, position, "an extended header without its member")
            return _check_end(window, url, position, behind_end)
        stored = _checked_size(header, url, position)
        body = position + BLOCK
        if header[156:157] in EXTENDED:
            if size is not None and body + stored > size:
                raise _cut(url, position)
            try:
                extended.add(header[156:157], window.get(body, _blocks(stored))[:stored])
            except ValueError as error:
                raise _corrupt(url, position, str(error)) from error
            position = body + _blocks(stored)
            continue
        if header[156:157] == b"0" and not extended:  # looked at here, because most members are such
            described: Described = Member(name_in(header), body, stored), body + stored, body + _blocks(stored)
        else:
            described = _described(header, stored, body, extended, window)
        member, stop, following = described
        if size is not None and stop > size:
            raise _cut(url, position)
        if member is not None:
            yield member
        position = following


def _described(header: bytes, stored: int, body: int, extended: Extended, window: _Window) -> Described:
    """What a header says of its member.

    stored: the header's size field. body: the byte behind the header.
    """
    kind, said, length, step = header[156:157], _NOTHING, stored, stored
    if extended:
        said, own_size = extended.take()
        length = _integer(said["size"]) if "size" in said else stored
        step = length if own_size else stored
    name = said["path"] if "path" in said else name_in(header)
    if kind == b"S":
        body = _behind_map(header, body, window)
    if kind == b"S" or (kind in _REGULAR and is_sparse(said)):
        return Rangeless(name, body, _SPARSE), body + step, body + _blocks(step)
    if kind in _REGULAR and not (kind == b"\0" and header[:100].rstrip(b"\0").endswith(b"/")):
        return Member(name, body, length), body + max(length, step), body + _blocks(step)
    if kind in _LINKS:
        what = f"{_LINKS[kind]} to {said.get('linkpath') or text(header[157:257])!r}: it has no bytes of its own"
        return Rangeless(name, body, NoRange(what, _WITHOUT_LINKS)), body, body
    step = 0 if kind in _BODILESS else step
    return None, body + step, body + _blocks(step)


def _behind_map(header: bytes, body: int, window: _Window) -> int:
    """The first byte behind the blocks that go on with the map of an old GNU sparse file; the size leaves them out."""
    goes_on = header[482]
    while goes_on:
        block = window.get(body, BLOCK)
        body += BLOCK
        goes_on = block[504] if len(block) == BLOCK else 0
    return body


def _skimmed(memory: bytes | mmap.mmap, base: int, position: int) -> Generator[Member, None, int]:
    if position < base or position >= base + len(memory):
        return position
    data = np.frombuffer(memory, np.uint8)
    headers, sizes = np.empty(_RUN, np.int64), np.empty(_RUN, np.int64)
    found = _RUN
    while found == _RUN:
        found, position = skim(data, position - base, headers, sizes)
        names = [text(memory[at : at + 100]) for at in headers[:found].tolist()]
        yield from map(Member, names, (headers[:found] + base + BLOCK).tolist(), sizes[:found].tolist())
        position += base
    return position


def _blocks(size: int) -> int:
    return (size + BLOCK - 1) & -BLOCK


def header_is(header: bytes, size: int) -> bool:
    """Whether `header` (512 bytes) has a correct checksum, and a size field that fits a member of `size` bytes."""
    if len(header) != BLOCK:
        return False
    usual = header[124:135] == b"%011o" % size
    if usual and header[148:155] == b"%06o\0" % _total(header):  # as nearly every tar program writes both
        return True
    try:
        # A PAX record may replace the size field, which is then 0, or has any value if the size needs more than 11 octal
        # digits.
        return (usual or number(header[124:136]) in (size, 0) or size >= 8**11) and _sound(header)
    except ValueError:
        return False


def number(field: bytes) -> int:
    """The number in a header's field: octal, or base 256 if its first bit is set. Raises ValueError for neither."""
    if field[0] in (0o200, 0o377):
        value = int.from_bytes(field[1:], "big")
        return value if field[0] == 0o200 else value - (1 << 8 * (len(field) - 1))
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def aligned(header: bytes) -> bool:
    """Whether the magic, if there is one, stands where it belongs.

    A checksum alone is as right in a header that begins a byte too late, if its first byte is also its body's.
    """
    return header.find(b"ustar", _MAGIC - 4, _MAGIC + 9) in (-1, _MAGIC)


def _sound(header: bytes) -> bool:
    """Whether the checksum is right."""
    stored = number(header[148:156])
    if (stored - _total(header)) % _ADLER == 0:
        return True
    # Some old tar programs summed signed bytes.
    return stored == sum(b - 256 * (b > 127) for b in header[:148] + header[156:]) + 8 * 0x20


def _total(header: bytes) -> int:
    """The checksum that `header` should have (mod 65521)."""
    # The low half of Adler-32 is 1 + the sum of the bytes (mod 65521), and takes a fifteenth of the time of sum().
    return (zlib.adler32(header) & 0xFFFF) - (zlib.adler32(header[148:156]) & 0xFFFF) + 8 * 0x20


def _checked_size(header: bytes, url: str, position: int) -> int:
    try:
        size = number(header[124:136])
        if size >= 0 and aligned(header) and _sound(header):
            return size
    except ValueError:
        pass
    if position == 0 and header.startswith(_ZIP):
        raise ShardUnsupported(f"{url}: a zip archive. Pack the files as a tar; no other kind of archive is a shard.")
    for magic, name in _COMPRESSED.items():
        if position == 0 and header.startswith(magic):
            raise ShardUnsupported(
                f"{url}: compressed with {name}, of which no single sample can be read. "
                "Decompress the shard, or stream it through `selected`."
            )
    raise _corrupt(url, position, "a header whose checksum or size is wrong")


def name_in(header: bytes) -> str:
    """The name that a header itself gives its member; an extended header before it may have said another."""
    name = text(header[:100])
    # Old GNU headers hold times where POSIX has the first folders of a long path (Python's tarfile takes them for such).
    return f"{text(header[345:500])}/{name}" if header[345] and header[_MAGIC:263] == _POSIX else name


def _integer(value: str) -> int:
    return int(value) if value.isdecimal() else 0


def _check_end(window: _Window, url: str, position: int, behind_end: Callable[[ShardDamaged], object]) -> None:
    """Every reader stops at a block of zeros. Looks for data within `_TAIL` bytes behind that at `position`.

    Raises ShardDamaged if they may be the rest of the last sample, and else gives it to `behind_end`.
    """
    tail = window.get(position + BLOCK, _TAIL)
    zeros = len(tail) - len(tail.lstrip(b"\0"))
    if zeros == len(tail):
        return
    # A writer ends with two blocks of zeros, and may fill up its record. Zeros of any other length may be a hole in the
    # archive, which has swallowed something.
    marker = position + 2 * BLOCK
    data = (position + BLOCK + zeros) & -BLOCK
    if data not in (marker, -(-marker // _RECORD) * _RECORD):
        raise _corrupt(url, position, "a block of zeros with more data behind it")
    behind_end(
        ShardDamaged(
            f"{url}: more data behind the end of the archive, from byte {data} on: another archive, perhaps, of which no "
            "reader sees anything. Write each archive as a shard of its own; a handler that returns True keeps the "
            "samples before it.",
            data,
        )
    )


def _cut(url: str, position: int) -> ShardDamaged:
    return _damaged(url, f"cut off: what begins at byte {position} is not all there, and no end follows", position)


def _corrupt(url: str, position: int, what: str) -> ShardDamaged:
    return _damaged(url, f"corrupt: {what}, at byte {position}", position)


def _damaged(url: str, how: str, position: int) -> ShardDamaged:
    remedy = "Fetch or write the shard again; a handler that returns True keeps the samples before it."
    return ShardDamaged(f"{url}: {how}. {remedy}", position)
