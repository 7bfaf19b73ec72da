"""Ranks within each of many groups whose rows lie one behind the other, in time linear in the rows, however many groups."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.select import Ties, premix
from adaptive_sampler.kernels.splitmix import number
from adaptive_sampler.kernels.tally import UNRANKED, score_keys

Keys = NDArray[
    np.uint64
]  # a row's: it sorts as the row is ranked; UNRANKED, which is the largest, says that it has no rank
Many = NDArray[np.int64]
_ONES = np.empty(0, np.int64)  # sizes of rows that all count as one


@kernel
def _sort(codes: Any, ends: Any, places: Any) -> None:
    """Write each place behind those of its code, which begin at ends[code]; this moves `ends`."""
    for place in range(codes.size):
        code = codes[place]
        places[ends[code]] = place
        ends[code] += 1


@kernel
def _count(codes: Any, counts: Any) -> None:
    for code in codes:
        counts[code] += 1


@kernel
def collect(codes: Any, ends: Any, values: Any, found: Any) -> None:
    """Write each value behind those of its code, which begin at ends[code]; this moves `ends`. It is as
    found[...] = values[places], and reads in order, which is faster than to read here and there.
    """
    for i in range(codes.size):
        end = ends[codes[i]]
        found[end] = values[i]
        ends[codes[i]] = end + 1


@kernel
def spread(codes: Any, ends: Any, values: Any, found: Any) -> None:
    """The reverse of `collect`: as found[places] = values."""
    for i in range(codes.size):
        end = ends[codes[i]]
        found[i] = values[end]
        ends[codes[i]] = end + 1


def by_group(codes: NDArray[Any], groups: int) -> tuple[Many, Many]:
    """(places, bounds): the places of each group, which ascend, one group behind the other; group g has bounds[g:g + 2] of them.

    `codes`: (n,) unsigned integers below `groups`, of which those that no place has are left out.
    """
    codes = codes.astype(np.uint32, copy=False)  # one dtype, so that kernels are compiled once
    counts, places = np.zeros(groups, np.int64), np.empty(len(codes), np.int64)
    _count(codes, counts)
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    _sort(codes, bounds[:-1].copy(), places)
    return places, np.concatenate([bounds[:1], bounds[1:][bounds[1:] > bounds[:-1]]])


@kernel
def _part(keys: Any, sizes: Any, first: Any, stop: Any, pivot: Any) -> Any:
    """Bring keys below the pivot, with their sizes, to the front of [first, stop) -> (where the others begin, units before)."""
    at, units = first, np.int64(0)
    for i in range(first, stop):
        key = keys[i]
        below = key < pivot
        keys[i], keys[at] = keys[at], key
        if sizes.size:
            size = sizes[i]
            sizes[i], sizes[at] = sizes[at], size
            units += size * np.int64(below)
        at += np.int64(below)
    return at, units if sizes.size else at - first


@kernel
def _cut(keys: Any, sizes: Any, bounds: Any, wanted: Any, cuts: Any, before: Any, left: Any, tied: Any) -> None:
    """Where the first `wanted` units of each group end in its ascending ranking: before[g] rows, those below cuts[g], begin
    earlier, and so do some of tied[g] further rows, which all have this key: those that begin in the first left[g] units of theirs.

    sizes: how many units each row has; empty: one. The keys come in another order afterwards, their sizes with them. A pivot is the
    key of a random row, so that no order of keys is a slow one.
    """
    for group in range(wanted.size):
        first, stop, rest = bounds[group], bounds[group + 1], wanted[group]
        stop, units = _part(keys, sizes, first, stop, UNRANKED)
        if rest <= 0 or rest >= units:
            cuts[group], before[group] = (UNRANKED, stop - first) if rest >= units else (np.uint64(0), 0)
            continue
        begin = first
        while stop - first > 1:  # 0 < rest <= the units between the two
            pivot = keys[first + np.int64(number(np.uint64(first), np.uint64(stop)) % np.uint64(stop - first))]
            middle, units = _part(keys, sizes, first, stop, pivot)
            if middle == first:  # no key is smaller, so those that are larger are parted from it
                middle, units = _part(keys, sizes, first, stop, pivot + np.uint64(1))
                if middle == stop:
                    break
            if rest > units:
                first, rest = middle, rest - units
            else:
                stop = middle
        cuts[group], before[group], left[group], tied[group] = keys[first], first - begin, rest, stop - first


@kernel
def _mark(keys: Any, bounds: Any, low: Any, high: Any, inside: Any) -> None:
    """Whether each row's key lies in its group's [low, high)."""
    for group in range(low.size):
        for i in range(bounds[group], bounds[group + 1]):
            inside[i] = low[group] <= keys[i] and keys[i] < high[group]


@kernel
def _add_hashes(keys: Any, hashes: Any) -> None:
    """The upper halves of the hashes become the lower halves of the keys of what has a rank."""
    for i in range(keys.size):
        if keys[i] != UNRANKED:
            keys[i] |= hashes[i] >> np.uint64(32)


@kernel
def _add_places(keys: Any, bounds: Any) -> None:
    """The place of a row in its group becomes the lower half of its key, if it has a rank."""
    for group in range(bounds.size - 1):
        for i in range(bounds[group], bounds[group + 1]):
            if keys[i] != UNRANKED:
                keys[i] |= np.uint64(i - bounds[group])


def _ranked(scores: NDArray[np.float32], bounds: Many, salt: int, ties: Ties, identity: Identity) -> Keys:
    keys: Keys = score_keys(np.ascontiguousarray(scores, np.float32).view(np.uint32))
    if ties == "row":
        _add_places(keys, bounds)
    else:
        _add_hashes(keys, identity.hashes(premix(salt)))
    return keys


def _firsts(
    keys: Keys, sizes: Many, bounds: Many, wanted: Many, salt: int, identity: Identity
) -> tuple[Keys, Many, list[NDArray[Any]]]:
    """(cuts, ranks, more): the rows that begin in the first `wanted` units of each group are those below its cut, and `more`."""
    cuts, before, left, tied = np.empty(len(wanted), np.uint64), *(np.zeros(len(wanted), np.int64) for _ in range(3))
    _cut(keys.copy(), sizes.copy(), bounds, np.ascontiguousarray(wanted, np.int64), cuts, before, left, tied)
    more = []
    for group in np.flatnonzero(tied > 1):  # equal in score and in half of their hashes, as few rows are
        start, stop = bounds[group : group + 2]
        places = identity.ordered(premix(salt), start + np.flatnonzero(keys[start:stop] == cuts[group]))
        units = sizes[places] if len(sizes) else np.ones(len(places), np.int64)
        more.append(places[np.cumsum(units) - units < left[group]])
        before[group] += len(more[-1])
    before += tied == 1
    return cuts + (tied == 1).astype(np.uint64), before, more


def _cuts(keys: Keys, bounds: Many, ranks: Many, salt: int, identity: Identity) -> tuple[Keys, list[NDArray[Any]]]:
    """(cuts, more) of `_firsts`, of rows; where all groups are wanted whole, or nothing of any, no key is looked at."""
    none = not ranks.any()
    if none or (ranks >= np.diff(bounds)).all():
        return np.full(len(ranks), 0 if none else UNRANKED, np.uint64), []
    cuts, _, more = _firsts(keys, _ONES, bounds, ranks, salt, identity)
    return cuts, more


def rank_windows(
    scores: NDArray[np.float32], bounds: Many, lo: Many, hi: Many, *, salt: int, ties: Ties, identity: Identity
) -> NDArray[np.uint8]:
    """`select.rank_window` of each group: the rows whose rank in group g is in [lo[g], hi[g]), (ceil(n / 8),) uint8.

    `scores`: (n,) float32, of one group behind the other; group g has scores[bounds[g]:bounds[g + 1]]. `identity`: their names.
    """
    keys, inside = _ranked(scores, bounds, salt, ties, identity), np.empty(len(scores), np.bool_)
    (low, out), (high, more) = (_cuts(keys, bounds, ranks, salt, identity) for ranks in (lo, hi))
    _mark(keys, bounds, low, high, inside)
    for places in more:
        inside[places] = True
    for places in out:
        inside[places] = False
    return np.packbits(inside, bitorder="little")


def ranks_at(
    scores: NDArray[np.float32],
    sizes: Many,
    bounds: Many,
    units: Many,
    *,
    salt: int,
    ties: Ties,
    identity: Identity,
) -> Many:
    """How many rows of each group's ascending ranking have their first unit before units[g], (groups,) int64; all of them if group
    g has no more units.

    `sizes`: (n,) how many units each row has, 0 or more, whose sum fits int64. The others: as `rank_windows` takes them.
    """
    keys = _ranked(scores, bounds, salt, ties, identity)
    return _firsts(keys, sizes, bounds, units, salt, identity)[1]
