"""Shards and plans for the tests of this folder."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.shards import ShardIndex


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
