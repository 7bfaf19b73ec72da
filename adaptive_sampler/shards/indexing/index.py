"""The index of a set of shards: which row is which sample, and where its bytes are."""

import json
import os
from collections.abc import Iterable
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.progress import Show
from adaptive_sampler.shards.errors import Handler, reraise
from adaptive_sampler.shards.indexing.build import Request, build, expand
from adaptive_sampler.shards.indexing.contents import IndexVersion, version_at
from adaptive_sampler.shards.indexing.listing import ListedShards, Listing
from adaptive_sampler.shards.indexing.scan import scan
from adaptive_sampler.shards.sources.access import Access
from adaptive_sampler.storage.generation import Seal
from adaptive_sampler.storage.places import Options

_BLOCK = 1 << 20  # rows whose keys are compared at once


class Extents(NamedTuple):
    """Where the bytes of some samples of one shard lie.

    offset, stop: (rows,) bytes offset … stop − 1 of the shard hold the bodies of a sample's members.
    first: (rows,) a sample's members are first … first + len(names) − 1 in `start` and `size`.
    names: (rows,) the part names of each sample. keys: (rows,) the samples' keys.
    heads: (rows,) what a plain header of a sample's first member begins with: its name, and a NUL.
    start, size: (members,) the first byte in the shard, and the size in bytes, of each member's body.
    """

    offset: NDArray[np.int64]
    stop: NDArray[np.int64]
    first: list[int]
    names: list[tuple[str, ...]]
    start: list[int]
    size: list[int]
    keys: list[str]
    heads: list[bytes]


class ShardIndex:
    """An opened index. Row r is the r-th sample over all shards, so a shard's samples have contiguous rows.

    It stays as it was opened, whatever is built at its path meanwhile, also in the processes that it is pickled to: they
    get its path and its version. Only what there is once per shard is held in memory; the rest is mapped.

    urls, stamps: (shards,) the URLs of the shards, and their stamps when they were indexed.
    starts: (shards + 1,) int64, the first row of each shard, and the number of all rows.
    damage: the errors that the handler did not raise, as {"error": type, "message": text, "url": of which shard}.
    path: the folder of the index.
    """

    def __init__(self, version: IndexVersion, options: Options = None) -> None:
        """Not for users, who call `open` and `build`. `options`: as for these."""
        self._opened, self._columns, self._options = version, version.columns, options
        self.path: Path | str = version.place
        about = version.about
        self.urls: tuple[str, ...] = tuple(about.urls)
        self.stamps: tuple[str, ...] = tuple(about.stamps)
        self.damage: tuple[dict[str, str], ...] = tuple(about.damage)
        self.starts: NDArray[np.int64] = version.starts
        self._layouts = about.layouts
        parts = ("".join(names[:1]).encode("utf-8", "surrogateescape") for names in about.layouts)
        self._first_parts = [b"." + part + b"\0" for part in parts]

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, options: Options = None) -> "ShardIndex":
        """Open the newest version of the index at `path`: a folder, or a URL of an object store or of a web server, with
        obstore's `options` (None: those of the environment), which loader workers get too.

        Raises InvalidValue for options without such a URL, or that obstore does not know.
        Raises `StoreDamaged` if there is none, if it has another format, or if it is not what was committed. Of the columns,
        a part is held against its checksum when it is first used, which raises the same.
        """
        return cls(version_at(path, options), options)

    @classmethod
    def build(
        cls,
        urls: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Listing,
        path: str | os.PathLike[str],
        *,
        workers: int | None = None,
        handler: Handler = reraise,
        progress: Show = False,
        renumber: bool = False,
        access: Access | None = None,
        options: Options = None,
    ) -> "ShardIndex":
        """Index the shards at `urls` into `path`, and open the index.

        `urls`: a list of URLs and paths, one path, or a text in WebDataset's notation (braces, and `::` between URLs). One
        pass reads the tar headers; it skips the bodies if the source allows that. Or an index that another package wrote beside
        shards: `Energon(folder)`, by which few headers are read, or `Wids(file)`. `path`: a folder, which is made if need be, or a
        URL of an object store, with obstore's `options` for it (None: those of the environment).
        The index is replaced atomically: a build that is killed leaves the last one, and whoever has an index open goes on
        with it.

        If `path` holds an index already, only new and changed shards are read, and nothing is written if there are none.
        Rows never move: new shards come after the known ones, and a change that would move rows is refused unless
        `renumber` is True. If another process builds at `path`, as every rank of a job does, this one waits and opens what
        was made.

        `workers`: threads that read shards. `handler`: decides about missing and damaged shards and duplicate keys;
        errors that it does not raise are listed in `.damage`. `progress`: True for a bar on stderr, or a function of
        (done, of). `access`: how remote shards are opened, with `options` of their own.

        Raises InvalidValue if there are no URLs, if one is given twice, or if rows would move; StoreDamaged if `path`
        holds something else than an index, or a damaged one; StoreError if nothing can be written there; and with the
        default handler ShardMissing, ShardDamaged, ShardUnsupported, DuplicateKey or, for a shard that is not what another
        package's index tells of it, ShardChanged.
        """
        access = access or Access()
        listed = urls.listed(access) if isinstance(urls, Listing) else nullcontext(ListedShards(expand(urls), scan))
        with listed as shards:
            build(Request(shards.urls, shards.scan, workers, handler, progress, renumber, access, options), path)
        return cls.open(path, options=options)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.path, self._options, self._opened.manifest.version, self._opened.seal)

    @property
    def keys(self) -> list[str]:
        """(n,) the samples' keys (`__key__`), by row."""
        return self.keys_of(0, len(self))

    @cached_property
    def bytes_per_sample(self) -> float:
        """The mean size of a sample's parts, in bytes."""
        return float(self._columns("sizes").sum(dtype=np.int64)) / max(len(self), 1)

    @property
    def overhead(self) -> int:
        """The size of the index in bytes, without the keys."""
        names = ("offsets", "member_ends", "layout", "key_ends", "starts", "sizes", "shard_starts")
        return sum(self._columns.bytes(name) for name in names)

    @cached_property
    def digest(self) -> str:
        """8 hex digits, equal for indexes whose rows have the same keys, in shards of the same numbers of samples."""
        seals = sorted(self._opened.manifest.objects.items())
        rows = [(name, seal) for name, seal in seals if name.startswith(("keys/c/", "key_ends/c/", "shard_starts/c/"))]
        return f"{checksum([json.dumps(rows).encode()]):08x}"

    def keys_of(self, start: int, stop: int) -> list[str]:
        """The keys of rows start … stop − 1. Raises InvalidValue for rows that are not in the index."""
        if stop > start and not 0 <= start < stop <= len(self):
            raise self._no_rows(start, stop - 1)
        raw = self._raw_keys(start, stop, np.arange(stop - start)) if stop > start else []
        return [key.decode("utf-8", "surrogateescape") for key in raw]

    def first_other_key(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> int | None:
        """The first row that has another key in the index than in a store; None if those that both have agree.

        text, ends: as a store keeps the keys of its n rows: in UTF-8, a NUL behind each, and (n,) where these stand.
        """
        rows = min(len(self), len(ends))
        for low in range(0, rows, _BLOCK):
            high = min(low + _BLOCK, rows)
            base, end, first, last = self._opened.bounds("key_ends", low, high)
            begin = int(ends[low - 1]) + 1 if low else 0
            lengths = np.diff(ends[low:high], prepend=begin - 1) - 1
            theirs, mine = text[begin : int(ends[high - 1])], self._columns("keys", base, end)
            theirs = theirs[theirs != 0]
            longer = np.flatnonzero(lengths != last - first)
            alike = int(longer[0]) if len(longer) else high - low
            stop = int(last[alike - 1]) if alike else 0
            differ = np.flatnonzero(theirs[:stop] != mine[:stop])
            if len(differ):
                return low + int(np.searchsorted(last, differ[0], "right"))
            if len(longer):
                return low + alike
        return None

    def shard_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(rows,) the number of each row's shard. Raises InvalidValue for a row that is not in the index."""
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise self._no_rows(int(rows.min()), int(rows.max()))
        return np.searchsorted(self.starts, rows, side="right") - 1

    def extents(self, shard: int, rows: NDArray[np.int64]) -> Extents:
        """Where `rows` lie in `shard`. rows: (rows,) int64, at least one, ascending, all of this shard."""
        low, high = int(rows[0]), int(rows[-1]) + 1
        here = rows - low
        base, end, first, last = self._opened.bounds("member_ends", low, high, here)
        starts, sizes = self._columns("starts", base, end), self._columns("sizes", base, end)
        offset = self._columns("offsets", low, high)[here].astype(np.int64)
        layout = self._columns("layout", low, high)[here]
        counts = last - first
        self._opened.check_members(shard, layout, counts)
        # The numbers of the wanted rows' members, one row after another.
        begin = np.cumsum(counts) - counts
        chosen = np.repeat(first - begin, counts) + np.arange(int(counts.sum()))
        start = starts[chosen].astype(np.int64) + np.repeat(offset, counts)
        size = sizes[chosen].astype(np.int64)
        if (start < 0).any() or (size < 0).any() or (offset < 0).any():
            raise self._columns.damaged(f"bytes of shard {shard} have negative places")
        stop = offset.copy()
        some = counts > 0
        stop[some] = (start + size)[(begin + counts - 1)[some]]
        names = [self._layouts[i] for i in layout.tolist()]
        raw = self._raw_keys(low, high, here)
        keys = [key.decode("utf-8", "surrogateescape") for key in raw]
        heads = [key + self._first_parts[i] for key, i in zip(raw, layout.tolist(), strict=True)]
        return Extents(offset, stop, begin.tolist(), names, start.tolist(), size.tolist(), keys, heads)

    def _no_rows(self, first: int, last: int) -> InvalidValue:
        """The error for rows of which some are not in the index."""
        return InvalidValue(f"rows {first} … {last}: this index has rows 0 … {len(self) - 1}.")

    def _raw_keys(self, low: int, high: int, here: NDArray[np.int64]) -> list[bytes]:
        """The keys of the rows low + `here`, of low … high − 1, as they are in the archive."""
        base, end, first, last = self._opened.bounds("key_ends", low, high, here)
        blob = self._columns("keys", base, end).tobytes()
        return [blob[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]


def _again(path: Path | str, options: Options, version: int, seal: Seal | None) -> ShardIndex:
    """The index as another process has it open: the same version, whatever was built since."""
    return ShardIndex(version_at(path, options, version, seal), options)
