"""Shards and plans for the tests of this folder."""

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.shards import ShardIndex, ShardReader


def write_tar(
    path: Path,
    members: Iterable[tuple[str, bytes]],
    format: int = tarfile.USTAR_FORMAT,
    pax_headers: Mapping[str, str] | None = None,
) -> Path:
    """A tar of regular files by Python's tarfile; each with `pax_headers`."""
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), dict(pax_headers or {})
            archive.addfile(info, io.BytesIO(data))
    return path


def body(key: str, size: int = 700) -> bytes:
    """Bytes that tell which sample they are of."""
    return (f"<{key}>".encode() * (size // 4 + 1))[:size]


def shards(folder: Path, counts: Iterable[int], size: int = 700) -> list[str]:
    """Shards of so many samples each, keys unique; a sample is a .bin of `size` bytes and a .cls."""
    urls = []
    for number, count in enumerate(counts):
        keys = [f"s{number}/{i:05d}" for i in range(count)]
        members = [
            m for i, k in enumerate(keys) for m in ((f"{k}.bin", body(k, size)), (f"{k}.cls", str(i % 10).encode()))
        ]
        urls.append(str(write_tar(folder / f"shard-{number:03d}.tar", members)))
    return urls


def index_of(folder: Path, counts: Iterable[int], size: int = 700) -> ShardIndex:
    """The index of new shards in `folder`."""
    return ShardIndex.build(shards(folder, counts, size), folder / "index")


def plan_of(
    n: int, rows: Iterable[int], counts: Mapping[int, int] | None = None, weights: Mapping[int, float] | None = None
) -> Plan:
    """A plan that visits `rows`, with repeats and loss weights where given."""
    rows = np.array(sorted(rows), np.int64)
    kept = np.zeros(n, bool)
    kept[rows] = True
    return Plan(
        n=n,
        policy={"name": "test"},
        seed=0,
        epoch=0,
        made_from=MadeFrom(0, 0),
        kept=None if len(rows) == n else np.packbits(kept, bitorder="little"),
        counts=None if counts is None else np.array([counts.get(int(r), 1) for r in rows], np.uint32),
        weights=None if weights is None else np.array([weights.get(int(r), 1.0) for r in rows], np.float32),
    )


# -- archives by the byte ---------------------------------------------------------------------------------------------

END = bytes(1024)
OLD_GNU = b"ustar  \0"
"""The magic of GNU tar's own format, where POSIX has "ustar", a NUL and "00"."""


def header(
    name: bytes,
    size: bytes,
    kind: bytes = b"0",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    fields: Mapping[int, bytes] | None = None,
) -> bytes:
    """A header with a right checksum; `fields` are further bytes by their place."""
    raw = bytearray(512)
    for at, value in {0: name, 124: size, 156: kind, 257: magic, 345: prefix, **(fields or {})}.items():
        raw[at : at + len(value)] = value
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def octal(value: int) -> bytes:
    """A number as headers have it: 11 octal digits and a NUL."""
    return b"%011o\0" % value


def padded(data: bytes) -> bytes:
    """A body, filled up to whole blocks."""
    return data + bytes(-len(data) % 512)


def record(key: str, value: str) -> bytes:
    """One PAX record."""
    text = f" {key}={value}\n"
    length = len(text.encode()) + 1
    while len(f"{length}{text}".encode()) != length:
        length += 1
    return f"{length}{text}".encode()


def pax(records: Iterable[tuple[str, str]], kind: bytes = b"x") -> bytes:
    """An extended header with `records`: of the next member, or (kind g) of all that follow."""
    body = b"".join(record(key, value) for key, value in records)
    return header(b"pax", octal(len(body)), kind) + padded(body)


def file(name: str, data: bytes) -> bytes:
    """A plain file."""
    return header(name.encode(), octal(len(data))) + padded(data)


def file_with_times(name: str, data: bytes, accessed: int) -> bytes:
    """A file in GNU tar's own format with the times of access and change, as `--listed-incremental` writes it."""
    times = {345: octal(accessed), 357: octal(accessed + 1)}
    return header(name.encode(), octal(len(data)), magic=OLD_GNU, fields=times) + padded(data)


def sparse(version: str, name: str, extents: Sequence[tuple[int, bytes]], size: int) -> bytes:
    """A sparse file of `size` bytes with data at `extents`, as GNU tar writes it.

    version: "old" for its own format, or "0.0", "0.1", "1.0" of its PAX records: the manual's appendix on sparse formats.
    """
    data = b"".join(part for _, part in extents)
    places = [(offset, len(part)) for offset, part in extents]
    if version == "old":
        return _old_sparse(name, places, size, data)
    own = [("GNU.sparse.size", str(size)), ("GNU.sparse.numblocks", str(len(places)))]
    shown = name
    if version == "0.0":
        for offset, length in places:
            own += [("GNU.sparse.offset", str(offset)), ("GNU.sparse.numbytes", str(length))]
    elif version == "0.1":
        own += [("GNU.sparse.name", name), ("GNU.sparse.map", ",".join(f"{a},{b}" for a, b in places))]
        shown = "GNUSparseFile.7/made.up"
    else:
        own = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")]
        own += [("GNU.sparse.name", name), ("GNU.sparse.realsize", str(size))]
        data = padded("".join(f"{n}\n" for n in (len(places), *(v for place in places for v in place))).encode()) + data
        shown = "GNUSparseFile.7/made.up"
    return pax(own) + header(shown.encode(), octal(len(data))) + padded(data)


def _old_sparse(name: str, places: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    entries = [octal(offset) + octal(length) for offset, length in places]
    fields = {386: b"".join(entries[:4]), 482: bytes([len(entries) > 4]), 483: octal(size)}
    blocks = b""
    for at in range(4, len(entries), 21):
        block = b"".join(entries[at : at + 21]).ljust(504, b"\0") + bytes([at + 21 < len(entries)])
        blocks += block.ljust(512, b"\0")
    return header(name.encode(), octal(len(data)), b"S", magic=OLD_GNU, fields=fields) + blocks + padded(data)


def whole(index: ShardIndex) -> list[dict[str, Any]]:
    """Every sample, in the order of the rows."""
    n = len(index)
    return list(ShardReader(index, plan_of(n, range(n)), window=0))
