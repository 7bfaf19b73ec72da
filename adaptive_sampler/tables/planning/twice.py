"""Whether a key comes twice in a table: by hashes, so many at a time as fit in memory, then by the keys themselves."""

from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.tables.planning.engines import TableShare
from adaptive_sampler.tables.planning.lines import AskedColumns, lines_of
from adaptive_sampler.tables.planning.partitions import Partitions, joined

AT_ONCE = 1 << 22  # hashes of a pass: 32 MiB, and as much again to sort them
_SUSPECTS = 1 << 10  # hashes that come twice and are looked into


class KeyPlace(NamedTuple):
    """Where a key stands. Places sort as they lie in the table."""

    partition: int
    line: int
    words: str


def check_twice(table: Partitions, key: str, text: bool, lines: int, wanted: bool | None) -> None:
    """Raise `InvalidValue`, with both places, for a key that comes twice.

    wanted: None: only in a table of up to `AT_ONCE` lines; True: in any, by a pass for each `AT_ONCE` lines; False: never.
    """
    if wanted is False or (wanted is None and lines > AT_ONCE):
        return
    asked = AskedColumns(key=key, text=text)
    parts = max(1, -(-lines // AT_ONCE))
    for part in range(parts):
        bounds = (part << 64) // parts, ((part + 1) << 64) // parts - 1
        hashes = np.concatenate([np.empty(0, np.uint64), *table.run(hashes_between, (asked, *bounds), joined)])
        hashes.sort()
        again = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])[:_SUSPECTS]
        del hashes
        if len(again):
            _raise_if_equal(table, asked, again)


def _raise_if_equal(table: Partitions, asked: AskedColumns, again: np.ndarray) -> None:
    places: dict[Any, list[KeyPlace]] = {}
    for name, place in table.run(places_of, (asked, again), joined, whole=True):
        places.setdefault(name, []).append(place)
    twice = [(sorted(found)[:2], name) for name, found in places.items() if len(found) > 1]
    if twice:
        (first, second), name = min(twice)
        told = name.decode() if isinstance(name, bytes) else name
        raise InvalidValue(
            f"{second.words}: key {told!r} comes twice, at first in {first.words}. A key names one line: drop one, or give the "
            "lines keys of their own."
        )


def check_wanted(check_keys: Any) -> None:
    """Raise `InvalidValue` unless `check_keys` is True, False or None."""
    if check_keys is not None and not isinstance(check_keys, bool):
        raise InvalidValue(
            f"check_keys={check_keys!r}: True or False, or None to look for repeated keys in tables of up to {AT_ONCE} lines."
        )


def hashes_between(share: TableShare, asked: AskedColumns, low: int, high: int) -> list[np.ndarray]:
    """The hashes of keys that lie from low to high."""
    found = []
    for lines in lines_of(share.pieces, asked):
        assert lines.names is not None
        hashes = lines.names.unseeded()
        found.append(hashes[(hashes >= np.uint64(low)) & (hashes <= np.uint64(high))])
    return [np.concatenate(found)] if found else []


def places_of(share: TableShare, asked: AskedColumns, hashes: np.ndarray) -> list[tuple[Any, KeyPlace]]:
    """(name, place) of the keys with these hashes, in ascending order."""
    found = []
    for partition, piece in enumerate(share.pieces, share.first):
        before = 0
        for lines in lines_of([piece], asked):
            assert lines.names is not None
            own = lines.names.unseeded()
            near = np.searchsorted(hashes, own).clip(max=len(hashes) - 1)
            for position in np.flatnonzero(hashes[near] == own).tolist():
                place = KeyPlace(partition, before + position, lines.place(position))
                found.append((lines.names.at(position), place))
            before += lines.length
    return found
