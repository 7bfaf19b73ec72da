"""What a store holds while it is in memory: what a new store is made of, and what several are merged from."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Table
from adaptive_sampler.memory.user_column import UserColumn


class Body(NamedTuple):
    """The scores of a store, the keys of its rows, the columns of the user's own, and how far it is.

    `runs`: the names of its training runs, the current one last; `epoch`: that of its clock. `fingerprint`: of the dataset.
    `where`: what messages call the store. `uuid`: the store's identifier, which its copies share; "" for a new one.
    """

    table: Table
    keys: KeyMap | None
    fingerprint: str | None = None
    runs: Sequence[str] = ("",)
    epoch: int = 0
    where: str = ""
    uuid: str = ""
    columns: Mapping[str, UserColumn] = MappingProxyType({})
