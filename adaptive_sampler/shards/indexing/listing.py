"""Shards that the index of another package lists: what such an index gives `build`, and how its files are read."""

import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from adaptive_sampler.errors import MALFORMED, InvalidValue
from adaptive_sampler.shards.errors import ShardChanged, ShardError
from adaptive_sampler.shards.indexing.scan import ShardTable
from adaptive_sampler.shards.sources.access import Access
from adaptive_sampler.shards.sources.base import told

_PIECE = 4 << 20  # bytes that are read at once
ITSELF = "index the shards themselves, ShardIndex.build(urls, path)"
PREPARE = f"Run `energon prepare` again, or {ITSELF}"


class ListedShards(NamedTuple):
    """Shards, and what makes the table of each: (url, access) -> its table, as `scan.scan` makes it."""

    urls: list[str]
    scan: Callable[[str, Access], ShardTable]


class Listing(ABC):
    """An index that another package wrote, which `ShardIndex.build` takes in place of URLs."""

    @abstractmethod
    def listed(self, access: Access) -> AbstractContextManager[ListedShards]:
        """The shards that it lists, while the context lasts. Raises InvalidValue if it cannot be read."""


@contextmanager
def pieces(place: str, access: Access) -> Iterator[Iterator[bytes]]:
    """The bytes of the file at `place`, piece by piece. Raises InvalidValue if they cannot be had."""
    try:
        with closing(access.open(place)) as source:
            yield _pieces(source.read)
    except ShardError as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise InvalidValue(
            f"{place}: cannot be read ({told(cause)}), and only it lists the shards. Name the index as it was written, or {ITSELF}."
        ) from error


def _pieces(read: Callable[[int, int], bytes]) -> Iterator[bytes]:
    start = 0
    while piece := read(start, _PIECE):
        yield piece
        start += len(piece)


def read_json(place: str, access: Access) -> Any:
    """What the JSON file at `place` says. Raises InvalidValue for none, and for one that names something twice."""
    with pieces(place, access) as found:
        data = b"".join(found)
    try:
        return json.loads(data, object_pairs_hook=_once)
    except MALFORMED as error:
        raise InvalidValue(
            f"{place}: is no JSON that can be read ({error}). Write that index anew, or {ITSELF}."
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = repeated([name for name, _ in pairs])
    if twice is not None:
        raise ValueError(f"it has {twice!r} twice")
    return dict(pairs)


def repeated(names: list[str]) -> str | None:
    """The first name that comes again; None if all differ."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def under(base: str, name: Any, place: str) -> str:
    """The URL of the shard `name` below `base`, a folder or URL; a `name` that begins with `base` is that URL.

    Raises InvalidValue for a name that leads elsewhere: a list that came with data must not choose which files are read.
    place: the index that names it.
    """
    above = base if not base or base.endswith("/") else f"{base}/"
    below = name.removeprefix(above) if isinstance(name, str) else ""
    steps = unquote(below).split("/")
    scheme = not above and ":" in steps[0]  # file:/etc is a URL too
    if "\0" in below or scheme or any(step in ("", ".", "..") for step in steps):
        raise InvalidValue(
            f"{place} lists {name!r}, which names no shard below {above or 'its folder'}, and only such are read. Put the shards "
            f"there and write that index anew, or {ITSELF}."
        )
    return above + below


def as_url(base: str, name: str) -> str:
    """The plain name of a file below `base`, as it is written in a URL of that kind."""
    return quote(name) if base.lower().startswith(("http://", "https://", "file:")) else name


def not_as_listed(url: str, place: str, why: str) -> ShardChanged:
    """The error for a shard that is not what the index at `place` says of it."""
    return ShardChanged(
        f"{url}: is not the shard that {place} tells of: {why}. Write that index anew, or {ITSELF}; a handler that returns "
        "True goes on without this shard."
    )


def folder_of(place: str) -> str:
    """The folder, or the URL of it, that the file at `place` lies in."""
    if Access.is_local(place):
        return os.path.dirname(place)
    return place.partition("?")[0].rpartition("/")[0]
