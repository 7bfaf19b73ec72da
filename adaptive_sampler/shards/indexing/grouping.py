"""Groups a shard's members into samples by WebDataset's rules: adjacent members with the same key are one sample."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from adaptive_sampler.shards.errors import DuplicateKey
from adaptive_sampler.shards.indexing.tar import Member, Rangeless

# These are exact copies of WebDataset's expressions (tariterators.py): they decide which members form a sample.
_KEY = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_META = re.compile(r"__[^/]*__($|/)")

RESERVED = frozenset({"__key__", "__url__", "__index__", "__loss_weight__"})
"""Fields that every sample has, so that no member may use them as its part name."""


class Sample(NamedTuple):
    """One sample of a shard: its key and where its parts lie.

    parts: part name -> (offset of its first byte, size in bytes), in the order of the archive.
    rangeless: the first member that is no range of the shard's bytes: without it the sample is not whole.
    """

    key: str
    parts: dict[str, tuple[int, int]]
    rangeless: Rangeless | None


def group(members: Iterable[Member | Rangeless], url: str, note: Callable[[DuplicateKey], object]) -> Iterator[Sample]:
    """Yield the samples of one shard.

    A member whose part name is reserved, or occurs in the sample already, is left out, and `note` gets a DuplicateKey. A
    sample that is still open when `members` raises is not yielded, because it may be incomplete.
    """
    key, stem = "", ""  # stem: the key of the open sample and a dot, or "" if no sample is open
    parts: dict[str, tuple[int, int]] = {}
    rangeless: Rangeless | None = None
    for member in members:
        name, offset, size = member
        rest = name[len(stem) :]
        if not (stem and name.startswith(stem) and rest.isalnum()):  # otherwise the expressions would find the same
            match = _KEY.match(name)
            if match is None or (name.startswith("__") and _META.match(name)):
                continue
            rest = match[2]
            if not stem or match[1] != key:
                if stem:
                    yield Sample(key, parts, rangeless)
                key, parts, stem, rangeless = match[1], {}, match[1] + ".", None
        part = rest.lower()
        if not isinstance(size, int):
            rangeless = rangeless or Rangeless(name, offset, size)
        elif part in parts or part in RESERVED:
            note(
                DuplicateKey(
                    f"{url}: member {name!r} at byte {offset}: sample {key!r} has a {part!r} already. "
                    "Give the parts of a sample distinct names; a handler that returns True keeps the first."
                )
            )
        else:
            parts[part] = (offset, size)
    if stem:
        yield Sample(key, parts, rangeless)
