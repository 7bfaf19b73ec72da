"""Shards with a flaw, the index of one, and the samples that are left."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.shards import ShardIndex, ShardReader
from tests.shards.indexing.handlers import go_on
from tests.shards.tars import END, file, header, octal, plan_of

GNU_TAR = shutil.which("tar")
gnu_tar = pytest.mark.skipif(GNU_TAR is None, reason="needs GNU tar")


def built(path: Path, handler: Any = go_on) -> ShardIndex:
    return ShardIndex.build(str(path), path.with_suffix(f".{handler.__name__}.index"), handler=handler)


def samples(index: ShardIndex) -> dict[str, dict[str, bytes]]:
    """The parts of each sample, by key."""
    read = ShardReader(index, plan_of(len(index), range(len(index))), window=0)
    return {s["__key__"]: {part: data for part, data in s.items() if not part.startswith("__")} for s in read}


def written(path: Path, *pieces: bytes, end: bytes = END) -> Path:
    path.write_bytes(b"".join(pieces) + end)
    return path


def link(name: str, target: str, kind: bytes = b"1") -> bytes:
    return header(name.encode(), octal(0), kind, fields={157: target.encode()})


def three() -> list[bytes]:
    return [file(f"{key}.{part}", f"{key}{part}".encode()) for key in "abc" for part in ("x", "y")]


WHOLE = {key: {part: f"{key}{part}".encode() for part in ("x", "y")} for key in "abc"}
