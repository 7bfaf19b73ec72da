"""A version that is about to be written: what it holds was taken of an open store, which may change meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.taken import TakenBook
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.storage.generation import Manifest


@dataclass(frozen=True)
class TakenVersion:
    """`write`: writes the version and makes it the newest, in any thread; the rest is what the store had when it was taken."""

    write: Callable[[], Manifest]
    books: list[TakenBook]
    n: int
    chunk: int
    keys: KeyMap | None
    columns: Mapping[str, UserColumn]
