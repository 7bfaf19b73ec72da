"""Reads the index of wids: a JSON file that lists shards, with how many samples and bytes each has, and no places in them."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from adaptive_sampler.checks import is_whole
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.indexing.listing import (
    ITSELF,
    ListedShards,
    Listing,
    folder_of,
    not_as_listed,
    read_json,
    repeated,
    under,
)
from adaptive_sampler.shards.indexing.scan import ShardTable, scanned
from adaptive_sampler.shards.sources.access import Access


@dataclass(frozen=True)
class Wids(Listing):
    """The shards that a file of wids lists (`widsindex create`), for `ShardIndex.build`.

    Places are not in it, so headers are read as without it; each shard must have as many samples, and bytes, as it says.

    file: its path or URL. base: the folder or URL that all its shards lie under; None: that of the file.
    Source: wids 0.1.11, `wids_index.py` and `wids_specs.py`.
    """

    file: str | os.PathLike[str]
    base: str | os.PathLike[str] | None = None

    @contextmanager
    def listed(self, access: Access) -> Iterator[ListedShards]:
        """Not for users: `ShardIndex.build` calls it. Raises InvalidValue for a file that is none of wids."""
        place = os.fspath(self.file)
        base = folder_of(place) if self.base is None else os.fspath(self.base)
        shards = _shards(read_json(place, access), place)
        urls = [under(base, shard["url"], place) for shard in shards]
        twice = repeated(urls)
        if twice is not None:
            raise InvalidValue(
                f"{place} lists {twice} twice: a shard's samples have one row each. Write that index anew."
            )
        said = dict(zip(urls, shards, strict=True))

        def compared(url: str, access: Access) -> ShardTable:
            with closing(access.open(url)) as source:
                size, bytes_said = source.size, said[url].get("filesize")
                if None not in (size, bytes_said) and size != bytes_said:
                    raise not_as_listed(url, place, f"{size} bytes, of {bytes_said}")
                table = scanned(url, source, access)
            if not table.flaws and len(table.offsets) != said[url]["nsamples"]:
                raise not_as_listed(url, place, f"{len(table.offsets)} samples, of {said[url]['nsamples']}")
            return table

        yield ListedShards(urls, compared)


def _shards(said: Any, place: str) -> list[dict[str, Any]]:
    """The entries of the list of shards. Raises InvalidValue unless it is one."""
    if isinstance(said, dict) and said.get("datasets"):
        raise InvalidValue(
            f"{place}: refers to further lists (its `datasets`), which are not followed. Index each of these, or {ITSELF}."
        )
    shards = said.get("shardlist") if isinstance(said, dict) and said.get("wids_version") == 1 else None
    if not isinstance(shards, list) or not shards or not all(map(_is_shard, shards)):
        raise InvalidValue(
            f"{place}: is no list of shards by wids (version 1): a `shardlist` of entries with `url`, `nsamples` and perhaps "
            f"`filesize`. Write it by `widsindex create`, or {ITSELF}."
        )
    return shards


def _is_shard(said: Any) -> bool:
    if not isinstance(said, dict) or not isinstance(said.get("url"), str):
        return False
    return is_whole(said.get("nsamples")) and is_whole(said.get("filesize", 0))
