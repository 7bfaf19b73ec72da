"""Reads the index that Megatron Energon keeps beside shards: `.nv-meta/`, as `energon prepare` writes it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adaptive_sampler.checks import is_whole
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.indexing.build import expand
from adaptive_sampler.shards.indexing.listing import PREPARE, ListedShards, Listing, as_url, read_json, under
from adaptive_sampler.shards.sources.access import Access

_COUNTS, _PLACES = ".nv-meta/.info.json", ".nv-meta/index.sqlite"


@dataclass(frozen=True)
class Energon(Listing):
    """The shards of a dataset that `energon prepare` has indexed, for `ShardIndex.build`, which then reads few headers.

    Keys and places are read from `.nv-meta/index.sqlite` and `.info.json`. Of each shard three samples are held against it,
    the first, the middle and the last, behind which it must end; a reader holds every sample that it reads against its header.

    folder: the path or URL of the dataset. shards: which of its shards, by their names there, as a list or in WebDataset's
    notation; None: all, in Energon's order.
    Source: megatron-energon 7.4.1, `flavors/webdataset/prepare.py` and `indexing.py`.
    """

    folder: str | os.PathLike[str]
    shards: str | Iterable[str] | None = None

    @contextmanager
    def listed(self, access: Access) -> Iterator[ListedShards]:
        """Not for users: `ShardIndex.build` calls it. Raises InvalidValue for what Energon has not written."""
        folder = os.fspath(self.folder)
        place = under(folder, _COUNTS, folder)
        counts = _counts(read_json(place, access), place)
        names = list(counts) if self.shards is None else expand(self.shards)
        other = next((name for name in names if name not in counts), None)
        if other is not None:
            raise InvalidValue(
                f"shards={other!r}: {place} has {len(counts)} shards, as {next(iter(counts))!r}, and none of that name."
            )
        urls = {under(folder, as_url(folder, name), place): name for name in names}
        # Imported late: SQLite is part of most Pythons, not of all.
        from adaptive_sampler.shards.indexing.database import Database

        with nullcontext("") if Access.is_local(folder) else TemporaryDirectory(prefix="adaptive-sampler-") as scratch:
            database = Database(under(folder, _PLACES, folder), counts, Path(scratch))
            yield ListedShards(list(urls), lambda url, access: database.table(url, urls[url], access))


def _counts(said: Any, place: str) -> dict[str, int]:
    """The number of samples of each shard, by its name, in the order in which the database counts shards."""
    counts = said.get("shard_counts") if isinstance(said, dict) else None
    if not isinstance(counts, dict) or not counts or not all(is_whole(count, 1) for count in counts.values()):
        raise InvalidValue(
            f"{place}: has no `shard_counts`, the number of samples, 1 or more, of each shard. {PREPARE}."
        )
    return counts
