"""The index of Megatron Energon, written slowly and plainly: what `energon prepare` of 7.4.1 writes of shards."""

import json
import re
import sqlite3
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path

NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
SKIPPED = re.compile(r"__[^/]*__($|/)")


def prepare(folder: Path, names: Sequence[str]) -> None:
    """Index the shards `names` of `folder`: `.nv-meta/index.sqlite` and `.info.json`, and `.tar.idx` beside each shard."""
    meta = folder / ".nv-meta"
    meta.mkdir(exist_ok=True)
    (meta / "index.sqlite").unlink(missing_ok=True)
    database, counts = sqlite3.connect(meta / "index.sqlite"), {}
    database.execute(
        "CREATE TABLE samples (tar_file_id INTEGER NOT NULL, sample_key TEXT NOT NULL UNIQUE, "
        "sample_index INTEGER NOT NULL, byte_offset INTEGER, byte_size INTEGER)"
    )
    database.execute(
        "CREATE TABLE sample_parts (tar_file_id INTEGER, sample_index INTEGER, part_name TEXT, "
        "content_byte_offset INTEGER, content_byte_size INTEGER)"
    )
    for shard, name in enumerate(names):
        samples, parts = rows(folder / name)
        begins = [begin for _, begin, _ in samples] + [end for *_, end in samples[-1:]]
        (folder / name).with_suffix(".tar.idx").write_bytes(struct.pack(f"{len(begins)}Q", *begins))
        for i, (key, begin, end) in enumerate(samples):
            database.execute("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", (shard, key, i, begin, end - begin))
        database.executemany("INSERT INTO sample_parts VALUES (?, ?, ?, ?, ?)", [(shard, *part) for part in parts])
        counts[name] = len(samples)
    database.commit()
    database.close()
    info = {"energon_version": "7.4.1", "shard_counts": counts}
    (meta / ".info.json").write_text(json.dumps(info, indent=2))


def rows(shard: Path) -> tuple[list[tuple[str, int, int]], list[tuple[int, str, int, int]]]:
    """Of a shard: (key, first byte, the byte behind) of each sample; (sample, part, first byte, bytes) of each member."""
    samples: list[tuple[str, int, int]] = []
    parts = []
    with tarfile.open(shard) as archive:
        for member in archive:
            match = NAME.match(member.name)
            if not member.isreg() or match is None or SKIPPED.match(member.name):
                continue
            key, part = match.groups()
            if not samples or samples[-1][0] != key:
                samples[-1:] = [(*sample[:2], member.offset) for sample in samples[-1:]]
                samples.append((key, member.offset, 0))
            parts.append((len(samples) - 1, part, member.offset_data, member.size))
        samples[-1:] = [(*sample[:2], archive.offset) for sample in samples[-1:]]
    return samples, parts
