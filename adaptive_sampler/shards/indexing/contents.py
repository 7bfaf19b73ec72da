"""What an index says: its shards, and the columns of their samples, as a version of it has them."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import MALFORMED, StoreDamaged
from adaptive_sampler.shards.indexing.columns import MappedColumns
from adaptive_sampler.shards.indexing.grouping import RESERVED
from adaptive_sampler.shards.indexing.scan import ShardTable
from adaptive_sampler.storage.generation import Seal
from adaptive_sampler.storage.places import Options, path_of, storage_at
from adaptive_sampler.storage.versions import Kind, Versions

FORMAT = 2  # of an index; 1 had no checksums
EVERYWHERE = ""  # the "url" of damage that is of no single shard
INDEX = Kind(
    "index of shards", "ShardIndex.build(urls, path)", "ShardIndex.build(urls, path)", "make room", "build again"
)


@dataclass
class Contents:
    """The shards of an index, without their samples.

    urls, stamps: the URL of each shard, and its stamp when it was scanned. layouts: the different tuples of part names.
    damage: the errors that the handler did not raise, as {"error": type, "message": text, "url": of which shard}.
    missing: the URLs that were asked for and gave no shard. again: the shards that the next build looks at though they have
    not changed: one that could not be read, whose samples are those of before, and one at which the handler stopped.
    """

    urls: list[str]
    stamps: list[str]
    layouts: list[tuple[str, ...]]
    damage: list[dict[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    def meta(self) -> dict[str, Any]:
        """The JSON data of a manifest that `of` reads."""
        return {"format": FORMAT, **vars(self), "layouts": [list(names) for names in self.layouts]}

    @classmethod
    def of(cls, meta: dict[str, Any]) -> "Contents":
        """What a manifest's `meta` says. Raises one of `errors.MALFORMED` if it is that of no index."""
        if meta["format"] != FORMAT:
            raise ValueError(f"format {meta['format']!r}; this adaptive-sampler reads {FORMAT}")
        lists = {name: meta[name] for name in ("urls", "stamps", "layouts", "damage", "missing", "again")}
        names = [name for layout in lists["layouts"] for name in layout]
        texts = [*lists["urls"], *lists["stamps"], *lists["missing"], *lists["again"], *names]
        texts += [text for error in lists["damage"] for text in (error["error"], error["message"], error["url"])]
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(v, list) for v in lists.values()):
            raise ValueError("urls, stamps, layouts, damage, missing and again are lists of texts")
        if len(lists["urls"]) != len(lists["stamps"]) or len(set(lists["urls"])) != len(lists["urls"]):
            raise ValueError("each URL occurs once, and has a stamp")
        if not all(map(_is_layout, lists["layouts"])):
            raise ValueError(
                f"the parts of a sample have different names, none of which is {', '.join(sorted(RESERVED))}"
            )
        return cls(**lists | {"layouts": [tuple(layout) for layout in lists["layouts"]]})


def _is_layout(names: Any) -> bool:
    return isinstance(names, list) and len(set(names)) == len(names) and not RESERVED & set(names)


class IndexVersion:
    """One version of an index: what it says of its shards, and their columns. It is not deleted while it is open.

    version, seal: by which another process opens the same version, though another one may be the newest by then.
    starts: (shards + 1,) int64, the first row of each shard, and the number of all rows.

    Raises `StoreDamaged` for a version that is none of an index, or contradicts itself.
    """

    def __init__(self, versions: Versions, version: int | None = None, seal: Seal | None = None) -> None:
        manifest, self._hold = versions.hold(version, seal)  # it ends with this object
        entry = versions.pointer.entry(manifest.version)
        self.seal = seal if entry is None else entry.manifest
        self.versions, self.manifest = versions, manifest
        try:
            self.about = Contents.of(manifest.meta)
            self.columns = MappedColumns(versions, manifest)
        except MALFORMED as error:
            raise StoreDamaged(
                f"{versions.where}: version {manifest.version} is none of an index of shards ({type(error).__name__}: {error}). "
                "Name the place of an index, or build one elsewhere."
            ) from error
        self.starts: NDArray[np.int64] = np.array(self.columns("shard_starts"))
        self._widths = np.array([len(names) for names in self.about.layouts], np.int64)
        self._check()

    @property
    def place(self) -> Path | str:
        """The folder of the index, or the name of another place."""
        return path_of(self.versions.storage)

    def _check(self) -> None:
        """Raise `StoreDamaged` unless the columns have as many elements as the shards have rows, and these members."""
        starts, length = self.starts, self.columns.length
        if len(starts) != len(self.about.urls) + 1 or starts[0] != 0 or (np.diff(starts) < 0).any():
            raise self.columns.damaged(f"{len(self.about.urls)} shards begin at rows {starts[:3].tolist()} …")
        n = int(starts[-1])
        if any(length(name) != n for name in ("offsets", "layout", "member_ends", "key_ends")):
            raise self.columns.damaged(f"its columns are not of {n} rows")
        if length("starts") != length("sizes"):
            raise self.columns.damaged(f"{length('starts')} members begin, and {length('sizes')} have a size")

    def bounds(
        self, name: str, low: int, high: int, here: slice | NDArray[np.int64] = slice(None)
    ) -> tuple[int, int, NDArray[np.int64], NDArray[np.int64]]:
        """Where rows low … high − 1 lie in the column that `name` (`…_ends`) is about: from its element `base` to `stop` − 1.

        Returns base, stop, and of the rows low + `here` the first element and the one behind the last, counted from `base`.
        """
        ends = self.columns(name, max(low - 1, 0), high)
        ends = ends if low else np.concatenate([np.zeros(1, np.int64), ends])
        base, stop = int(ends[0]), int(ends[-1])
        first, last = ends[:-1][here] - base, ends[1:][here] - base
        if base < 0 or (first < 0).any() or (last < first).any() or (last > stop - base).any():
            raise self.columns.damaged(f"{name} of rows {low} … {high - 1} do not ascend")
        return base, stop, first, last

    def check_members(self, shard: int, layout: NDArray[Any], counts: NDArray[np.int64]) -> None:
        """Raise `StoreDamaged` unless each row of `layout` has as many members as it has part names. counts: (rows,)."""
        if len(layout) and (layout.max() >= len(self._widths) or (self._widths[layout] != counts).any()):
            raise self.columns.damaged(f"samples of shard {shard} have more members or fewer than part names")

    def tables(self) -> dict[str, ShardTable]:
        """The samples of each shard, by its URL."""
        bounds, columns, tables = self.starts.tolist(), self.columns, {}
        for shard, (url, stamp) in enumerate(zip(self.about.urls, self.about.stamps, strict=True)):
            low, high = bounds[shard], bounds[shard + 1]
            begin, end, first, last = self.bounds("member_ends", low, high)
            self.check_members(shard, layout := columns("layout", low, high), last - first)
            key_begin, key_end, key_first, key_last = self.bounds("key_ends", low, high)
            tables[url] = ShardTable(
                url,
                stamp,
                self.about.layouts,
                layout,
                columns("offsets", low, high),
                columns("starts", begin, end),
                columns("sizes", begin, end),
                columns("keys", key_begin, key_end).tobytes(),
                key_last - key_first,
            )
        return tables


def newest(versions: Versions) -> IndexVersion | None:
    """The newest version; None if the place holds none yet. Raises `StoreDamaged` if it holds something else."""
    if not versions.unbegun():
        return IndexVersion(versions)
    versions.create()
    return None


def version_at(
    path: str | os.PathLike[str], options: Options, version: int | None = None, seal: Seal | None = None
) -> IndexVersion:
    """The index at `path`, in its newest version or in one that `IndexVersion` says how to find again."""
    return IndexVersion(Versions(storage_at(path, options), INDEX), version, seal)
