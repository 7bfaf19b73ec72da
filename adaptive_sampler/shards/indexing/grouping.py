"""Groups a shard's members into samples by the same rules as WebDataset: one key, adjacent members."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from adaptive_sampler.shards.errors import DuplicateKey, Handler
from adaptive_sampler.shards.indexing.tar import Member

# WebDataset's own expressions (tariterators.py), to the letter: what they match decides what a sample is.
_KEY = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_META = re.compile(r"__[^/]*__($|/)")

RESERVED = frozenset({"__key__", "__url__", "__index__", "__loss_weight__"})
"""Fields of a sample that no member may claim as its part name."""


class Sample(NamedTuple):
    """One sample: its key, and its parts in the order of the archive: name -> (first byte, bytes)."""

    key: str
    parts: dict[str, tuple[int, int]]


def group(members: Iterable[Member], url: str, handler: Handler) -> Iterator[Sample]:
    """Yield the samples of one shard. A part named twice in one sample goes to `handler`; True keeps the first.

    A sample that is still open when `members` raises is not yielded: nobody knows whether it is complete.
    """
    key, stem = "", ""  # stem: key and dot of the sample that is open, "" where none is
    parts: dict[str, tuple[int, int]] = {}
    for member in members:
        name, offset, size = member
        rest = name[len(stem) :]
        if not (stem and name.startswith(stem) and rest.isalnum()):  # else the expressions would say the same
            match = _KEY.match(name)
            if match is None or (name.startswith("__") and _META.match(name)):
                continue
            rest = match[2]
            if not stem or match[1] != key:
                if stem:
                    yield Sample(key, parts)
                key, parts, stem = match[1], {}, match[1] + "."
        part = rest.lower()
        if part in parts or part in RESERVED:
            error = DuplicateKey(
                f"{url}: member {name!r} at byte {offset}: sample {key!r} has a {part!r} already. "
                "Give the parts of a sample distinct names; a handler that returns True keeps the first."
            )
            if not handler(error):
                break
            continue
        parts[part] = (offset, size)
    if stem:
        yield Sample(key, parts)
