"""What names a row past one process, its key or its number, and the random bits that it has by that name.

A plan is the same on any number of partitions, as each row's part in it depends on the row's own name alone.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.keys import hash_all
from adaptive_sampler.kernels.llvm import lowbias32
from adaptive_sampler.kernels.splitmix import number

# Hashes of keys, or numbers of rows, that kernels read: one of the two is empty. Where both are, names are positions.
Names = tuple[NDArray[np.uint64], NDArray[np.int64]]

NO_HASHES, NO_PLACES = np.empty(0, np.uint64), np.empty(0, np.int64)
_MASK = np.uint64(0xFFFFFFFF)


@kernel
def _lane(word: Any, place: Any) -> Any:
    """What `lowbias32` writes at one `place` of 64, as a uint64."""
    x = ((np.uint64(place) * np.uint64(0x9E3779B9)) + word) & _MASK
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D)) & _MASK
    x ^= word >> np.uint64(32)
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B)) & _MASK
    return x ^ (x >> np.uint64(16))


@kernel
def row_hash(start: Any, row: Any) -> Any:
    """The 64-bit hash of a row without a key. `row`: its number, a uint64."""
    upper = _lane(number(start, row >> np.uint64(6)), row & np.uint64(63))
    return upper << np.uint64(32) | number(~np.uint64(start), row) >> np.uint64(32)


@kernel
def upper_halves(start: Any, hashes: Any, rows: Any, first: Any, out: Any) -> None:
    """The upper halves of the hashes of the 64 places from `first`, a multiple of 64, on, into `out`, (64,) uint32.

    Where fewer rows are named, the rest of `out` stays as it is. 64 neighbours without a key find theirs at once.
    """
    if hashes.size:
        some = hashes[first : first + 64]
        for i in range(some.size):
            out[i] = np.uint32(number(start, some[i]) >> np.uint64(32))
    elif rows.size:
        for i in range(min(64, rows.size - first)):
            row = np.uint64(rows[first + i])
            out[i] = np.uint32(_lane(number(start, row >> np.uint64(6)), row & np.uint64(63)))
    else:
        lowbias32(number(start, first >> 6), out)


@kernel
def hash_places(start: Any, hashes: Any, rows: Any, places: Any, first: Any, out: Any) -> None:
    """The 64-bit hash of each of `places`, or of `first`, first + 1, … where `places` is empty, into `out`, uint64."""
    for i in range(out.size):
        place = places[i] if places.size else first + i
        if hashes.size:
            out[i] = number(start, hashes[place])
        else:
            out[i] = row_hash(start, np.uint64(rows[place] if rows.size else place))


@kernel
def _sort_bytes(order: Any, first: Any, stop: Any, rows: Any, text: Any, ends: Any) -> None:
    """Sort order[first:stop] by the bytes of the keys of rows[order], by insertion: equal hashes are few."""
    for i in range(first + 1, stop):
        at = order[i]
        j = i
        while j > first and _before(rows[at], rows[order[j - 1]], text, ends):
            order[j] = order[j - 1]
            j -= 1
        order[j] = at


@kernel
def _before(one: Any, other: Any, text: Any, ends: Any) -> Any:
    """Whether the key of one row comes before that of the other, byte by byte."""
    a, a_stop = ends[one - 1] + 1 if one else 0, ends[one]
    b, b_stop = ends[other - 1] + 1 if other else 0, ends[other]
    while a < a_stop and b < b_stop:
        if text[a] != text[b]:
            return text[a] < text[b]
        a += 1
        b += 1
    return a == a_stop and b < b_stop


class Identity(Protocol):
    """The names of rows. A row's place is where it stands among them: of all rows of a store, that is its number."""

    names: Names

    def __len__(self) -> int:
        """How many rows there are."""

    def hashes(self, start: np.uint64, places: NDArray[Any] | None = None) -> NDArray[np.uint64]:
        """The 64-bit hashes of the rows at `places`, (m,) integers, or of all, (n,), in the sequence from `start`."""

    def ordered(self, start: np.uint64, places: NDArray[Any]) -> NDArray[Any]:
        """`places`, (m,) integers, in the order of their hashes. Rows of equal hash come as their keys' UTF-8 bytes, or as
        their numbers; a place may come several times."""

    def part(self, places: NDArray[np.int64]) -> "Identity":
        """The names of the rows at `places` alone, (m,), whose places then are 0 … m − 1."""


class RowIdentity:
    """Names of `n` rows without keys: their numbers, 0 … n − 1, or `rows`, (n,) int64."""

    def __init__(self, n: int, rows: NDArray[np.int64] | None = None) -> None:
        self._n = n
        self.names: Names = (NO_HASHES, NO_PLACES if rows is None else np.ascontiguousarray(rows, np.int64))

    def __len__(self) -> int:
        return self._n

    def hashes(self, start: np.uint64, places: NDArray[Any] | None = None) -> NDArray[np.uint64]:
        """As `Identity.hashes`: the upper half, which 64 neighbours find at once, decides but where two are equal."""
        return _hashed(self, start, places)

    def ordered(self, start: np.uint64, places: NDArray[Any]) -> NDArray[Any]:
        """As `Identity.ordered`."""
        _, rows = self.names
        return places[np.lexsort((rows[places] if len(rows) else places, self.hashes(start, places)))]

    def part(self, places: NDArray[np.int64]) -> "RowIdentity":
        """As `Identity.part`."""
        _, rows = self.names
        return RowIdentity(len(places), rows[places] if len(rows) else places)


class KeyIdentity:
    """Names of rows with keys: `hashes`, (n,) uint64, as `key_hashes` finds them.

    text, ends: the keys' UTF-8 bytes, each followed by a NUL, and where each ends, of which a hash that two keys have in
    common sends for more. `rows`, (n,) int64: which of these keys the rows have; None: row i has the i-th.
    """

    def __init__(
        self,
        hashes: NDArray[np.uint64],
        text: NDArray[np.uint8],
        ends: NDArray[np.int64],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.names: Names = (hashes, NO_PLACES)
        self._text, self._ends, self._rows = text, ends, rows

    def __len__(self) -> int:
        return len(self.names[0])

    def hashes(self, start: np.uint64, places: NDArray[Any] | None = None) -> NDArray[np.uint64]:
        """As `Identity.hashes`: two keys have the same one only where their unseeded hashes are equal."""
        return _hashed(self, start, places)

    def ordered(self, start: np.uint64, places: NDArray[Any]) -> NDArray[Any]:
        """As `Identity.ordered`."""
        hashes = self.hashes(start, places)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        equal = np.flatnonzero(hashes[1:] == hashes[:-1])
        if len(equal):
            rows = places if self._rows is None else self._rows[places]
            breaks = np.flatnonzero(np.diff(equal) > 1)
            firsts, lasts = equal[np.r_[0, breaks + 1]], equal[np.r_[breaks, -1]]
            for first, last in zip(firsts, lasts, strict=True):
                _sort_bytes(order, first, last + 2, rows.astype(np.int64), self._text, self._ends)
        return places[order]

    def part(self, places: NDArray[np.int64]) -> "KeyIdentity":
        """As `Identity.part`."""
        rows = places if self._rows is None else self._rows[places]
        return KeyIdentity(self.names[0][places], self._text, self._ends, rows)


def key_hashes(text: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n,) the 64-bit hashes of n keys, which no seed changes. `text`, `ends`: as `KeyIdentity` takes them."""
    hashes: NDArray[np.uint64] = hash_all(text, ends)
    return hashes


def _hashed(identity: Identity, start: np.uint64, places: NDArray[Any] | None) -> NDArray[np.uint64]:
    out = np.empty(len(identity) if places is None else len(places), np.uint64)
    if len(out):
        hash_places(np.uint64(start), *identity.names, NO_PLACES if places is None else places, 0, out)
    return out
