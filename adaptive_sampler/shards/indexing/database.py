"""Energon's database of samples and their parts. It is read as what it is, the claims of a file about other files."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.errors import ShardDamaged
from adaptive_sampler.shards.indexing.grouping import Sample, group
from adaptive_sampler.shards.indexing.listing import PREPARE, not_as_listed, pieces
from adaptive_sampler.shards.indexing.scan import Flaw, ShardTable, table_of
from adaptive_sampler.shards.indexing.tar import Member, walk
from adaptive_sampler.shards.sources.access import BLOCK, Access
from adaptive_sampler.shards.sources.base import Source

Ints = NDArray[np.int64]
_MOST = 1 << 62  # bytes: sums of two such numbers do not overflow
_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE TABLE %' "
    "AND name IN ('samples', 'sample_parts')"
)
_COUNTS = "SELECT tar_file_id, COUNT(*) FROM samples GROUP BY tar_file_id"
_SAMPLES = (
    "SELECT sample_index, sample_key, byte_offset, byte_size FROM samples WHERE tar_file_id = ? ORDER BY sample_index"
)
_PARTS = (
    "SELECT sample_index, part_name, content_byte_offset, content_byte_size FROM sample_parts WHERE tar_file_id = ? "
    "ORDER BY sample_index, content_byte_offset"
)


class Claims(NamedTuple):
    """What the database says of the n samples of a shard, and of their m members.

    keys: n texts. offsets, sizes: (n,) where a sample's first header begins, and the bytes from there to the next sample.
    parts: m texts. owners: (m,) the row of each member, ascending. starts, lengths: (m,) the bytes of its body.
    """

    keys: tuple[str, ...]
    offsets: Ints
    sizes: Ints
    parts: tuple[str, ...]
    owners: Ints
    starts: Ints
    lengths: Ints

    def members(self) -> Iterator[Member]:
        """The members, by the names that they have in the archive."""
        names = (f"{self.keys[owner]}.{part}" for owner, part in zip(self.owners.tolist(), self.parts, strict=True))
        return map(Member, names, self.starts.tolist(), self.lengths.tolist())

    def fault(self) -> str | None:
        """Why these are no places of members in an archive, one after another; None if they may be."""
        numbers = np.concatenate(self[1:3] + self[4:])
        if (numbers < 0).any() or (numbers >= _MOST).any():
            return "some places are no numbers of bytes"
        ends = self.offsets + self.sizes
        if (ends[:-1] != self.offsets[1:]).any():
            return "samples do not follow one another"
        if (self.owners >= len(self.keys)).any() or not np.bincount(self.owners, minlength=len(self.keys)).all():
            return "some samples have no parts, or some parts no sample"
        stops = self.starts + (self.lengths + BLOCK - 1) // BLOCK * BLOCK
        first = np.diff(self.owners, prepend=-1) > 0
        free = np.where(first, self.offsets[self.owners], np.roll(stops, 1)) + BLOCK
        last = np.diff(self.owners, append=len(self.keys)) > 0
        if (self.starts < free).any() or (self.starts % BLOCK).any() or (stops > ends[self.owners])[last].any():
            return "some members overlap, as sparse files do there, or lie outside of their sample"
        return None


class Database:
    """`.nv-meta/index.sqlite`, which is copied into `scratch` if it lies elsewhere than on a disk of this machine.

    counts: the samples of each shard, in the order in which it counts shards.
    """

    def __init__(self, place: str, counts: dict[str, int], scratch: Path) -> None:
        self._place, self._counts, self._scratch = place, counts, scratch
        self._numbers = {name: number for number, name in enumerate(counts)}
        self._lock, self._file = threading.Lock(), cast(Path | None, None)

    def table(self, url: str, name: str, access: Access) -> ShardTable:
        """The table of the shard at `url`. Raises ShardChanged if it is another than was indexed."""
        rows = self._rows(name, access)
        flaws: list[Flaw] = []
        keys: list[bytes] = []
        samples: list[Sample] = []

        def taken() -> Iterator[Sample]:
            for sample in group(rows.members(), url, lambda error: flaws.append(Flaw(len(keys), error))):
                samples.append(sample)
                yield sample

        with closing(access.open(url)) as source:
            table = table_of(url, source, taken(), keys, flaws)
            if tuple(sample.key for sample in samples) != rows.keys:
                raise self._wrong(f"the keys and parts of {name} are of other files than its samples")
            try:
                other = _otherwise(url, source, samples, rows.offsets.tolist(), flaws)
            except ShardDamaged as error:
                other = f"it is damaged, or ends, at byte {error.offset}"
        if other is not None:
            raise not_as_listed(url, self._place, other)
        return table

    def _rows(self, name: str, access: Access) -> Claims:
        with closing(self._open(access)) as database:
            number = (self._numbers[name],)
            samples, parts = self._ask(database, _SAMPLES, number), self._ask(database, _PARTS, number)
        kinds = [{int}, {str}, {int}, {int}]
        if any([set(map(type, column)) for column in zip(*found, strict=True)] != kinds for found in (samples, parts)):
            raise self._wrong(f"it has no samples of {name}, or values of other kinds than Energon writes")
        order, keys, offsets, sizes = zip(*samples, strict=True)
        if order != tuple(range(len(order))):
            raise self._wrong(f"the samples of {name} are not counted from 0 on, each once")
        owners, names, starts, lengths = zip(*parts, strict=True)
        offset, size = np.array([offsets, sizes], np.int64)
        owner, start, length = np.array([owners, starts, lengths], np.int64)
        rows = Claims(keys, offset, size, names, owner, start, length)
        fault = rows.fault()
        if fault is not None:
            raise self._wrong(f"of {name} {fault}")
        return rows

    def _open(self, access: Access) -> sqlite3.Connection:
        """The database, to read. The first call copies it, and holds it against the counts."""
        with self._lock:
            if self._file is None:
                file = self._local(access)
                with closing(self._connect(file)) as database:
                    self._check(database)
                self._file = file
            return self._connect(self._file)

    def _connect(self, file: Path) -> sqlite3.Connection:
        try:
            database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise self._wrong(f"it cannot be opened ({error})") from error
        self._ask(database, "PRAGMA trusted_schema = OFF")  # what the file has computed may call nothing
        return database

    def _local(self, access: Access) -> Path:
        if Access.is_local(self._place):
            return Path(unquote(urlsplit(self._place).path) if self._place.startswith("file:") else self._place)
        file = self._scratch / "index.sqlite"
        with pieces(self._place, access) as found, file.open("wb") as copy:
            copy.writelines(found)
        return file

    def _check(self, database: sqlite3.Connection) -> None:
        """Raise InvalidValue unless it has Energon's two tables, and as many samples of each shard as were counted."""
        if len(self._ask(database, _TABLES)) < 2:
            raise self._wrong("it lacks the table samples or sample_parts (before Energon 7 there was none of parts)")
        there = dict(self._ask(database, _COUNTS))
        for number, (name, count) in enumerate(self._counts.items()):
            if there.pop(number, 0) != count:
                raise self._wrong(
                    f"it has another number of samples of {name} than `.info.json`, {count}: they are of two runs"
                )
        if there:
            raise self._wrong(f"it has samples of {len(there)} more shards than `.info.json`: they are of two runs")

    def _ask(self, database: sqlite3.Connection, question: str, values: tuple[int, ...] = ()) -> list[Any]:
        try:
            return database.execute(question, values).fetchall()
        except (sqlite3.Error, ValueError) as error:
            raise self._wrong(f"it cannot be read ({error})") from error

    def _wrong(self, why: str) -> InvalidValue:
        return InvalidValue(f"{self._place}: is not as Energon writes it: {why}. {PREPARE}.")


def _otherwise(url: str, source: Source, samples: list[Sample], offsets: list[int], flaws: list[Flaw]) -> str | None:
    """What a shard has in the place of its first, middle or last sample, or behind that one; None if it has these.

    What follows behind the end of the archive is noted in `flaws`. Raises ShardDamaged for what is no member.
    """
    last = len(samples) - 1
    behind: list[ShardDamaged] = []
    for row in sorted({0, last // 2, last}):
        members = walk(source.read, url, source.size, behind_end=behind.append, position=offsets[row])
        found = group(members, url, lambda error: None)
        if next(found, None) != samples[row]:
            return f"at byte {offsets[row]} begins no sample {samples[row].key!r} of such parts"
        if row == last and next(found, None) is not None:
            return f"more samples follow behind {samples[row].key!r}, its last one"
    flaws += [Flaw(len(samples), error) for error in behind]
    return None
