"""Hash and look up strings that lie one after the other in one byte array, each up to its end, a NUL."""

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel


@kernel
def hash_all(text, ends):
    """A 64-bit hash of each string: FNV-1a, then mixed, because the table is sorted by it."""
    hashes = np.empty(ends.size, np.uint64)
    start = 0
    for i in range(ends.size):
        h = np.uint64(0xCBF29CE484222325)
        for j in range(start, ends[i]):
            h = (h ^ np.uint64(text[j])) * np.uint64(0x100000001B3)
        h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
        hashes[i] = h ^ (h >> np.uint64(32))
        start = ends[i] + 1
    return hashes


@kernel
def _equal(a, a_start, a_stop, b, b_start, b_stop):
    if a_stop - a_start != b_stop - b_start:
        return False
    for i in range(a_stop - a_start):
        if a[a_start + i] != b[b_start + i]:
            return False
    return True


@kernel
def first_twice(hashes, order, borders, text, ends):
    """The smallest pair of positions that hold the same string, or (-1, -1). `hashes` sorted, `order` stable."""
    best = (-1, -1)
    for i in range(1, hashes.size):
        b, j = order[i], i - 1
        # A string that comes often is compared until it comes the second time, not with each time before.
        while j >= 0 and hashes[j] == hashes[i] and (best[0] < 0 or b < best[1]):
            a = order[j]
            a_start = ends[a - 1] + 1 if a else 0
            b_start = ends[b - 1] + 1 if b else 0
            if _equal(text, a_start, ends[a], text, b_start, ends[b]):
                best = (a, b)
            j -= 1
    return best


@kernel
def index(hashes, shift, sorted_, order, borders):
    """Sort hashes: by their leading bits, hash >> shift >> 1, each at once to where those with these bits lie, which are few,
    as the bits are random; and then those by insertion.

    sorted_: the hashes in ascending order; `order`: where each was, of equal ones in order; `borders`, zeros before: where those
    with the same leading bits begin, and after the last ones, how many there are in all.
    """
    for i in range(hashes.size):
        borders[np.int64(hashes[i] >> shift >> np.uint64(1)) + 1] += 1
    for b in range(borders.size - 1):
        borders[b + 1] += borders[b]
    for i in range(hashes.size):
        b = np.int64(hashes[i] >> shift >> np.uint64(1))
        place = borders[b]
        sorted_[place], order[place] = hashes[i], i
        borders[b] = place + 1
    for b in range(borders.size - 1, 0, -1):  # each has moved up to where the next one begins
        borders[b] = borders[b - 1]
    borders[0], borders[borders.size - 1] = 0, hashes.size
    for b in range(borders.size - 1):
        for i in range(borders[b] + 1, borders[b + 1]):
            value, row, j = sorted_[i], order[i], i
            while j > borders[b] and sorted_[j - 1] > value:
                sorted_[j], order[j] = sorted_[j - 1], order[j - 1]
                j -= 1
            sorted_[j], order[j] = value, row


@kernel
def find(wanted, wanted_text, wanted_ends, hashes, order, borders, text, ends):
    """The position of each wanted string among those in the table, or -1: its bucket, its hash, then compare the strings.

    One pass a step: loads of different strings that do not wait for each other hide the memory's latency.
    """
    buckets = borders.size - 1  # a power of two
    shift = 63  # one less than the bits to drop: a shift by 64 is not defined
    while buckets > 1:
        buckets >>= 1
        shift -= 1
    places = np.empty(wanted.size, np.int64)
    for i in range(wanted.size):
        places[i] = borders[np.int64(wanted[i] >> np.uint64(shift) >> np.uint64(1))]
    for i in range(wanted.size):
        place = places[i]
        while place < hashes.size and hashes[place] < wanted[i]:
            place += 1
        places[i] = place
    rows = np.empty(wanted.size, np.int64)
    for i in range(wanted.size):
        rows[i] = order[places[i]] if places[i] < hashes.size else 0
    starts, stops = np.empty(wanted.size, np.int64), np.empty(wanted.size, np.int64)
    for i in range(wanted.size):
        starts[i], stops[i] = ends[rows[i] - 1] + 1 if rows[i] else 0, ends[rows[i]]
    for i in range(wanted.size):
        start = wanted_ends[i - 1] + 1 if i else 0
        if not _equal(wanted_text, start, wanted_ends[i], text, starts[i], stops[i]):
            rows[i] = _search(wanted[i], places[i], wanted_text, start, wanted_ends[i], hashes, order, text, ends)
    return rows


@kernel
def _search(hashed, place, wanted_text, start, stop, hashes, order, text, ends):
    """The position of one string among those of equal hash from `place` on, or -1."""
    while place < hashes.size and hashes[place] == hashed:
        row = order[place]
        row_start = ends[row - 1] + 1 if row else 0
        if _equal(wanted_text, start, stop, text, row_start, ends[row]):
            return row
        place += 1
    return -1


@kernel
def pick(text, ends, rows, out, out_ends):
    """The strings at `rows`, one after the other: their bytes into `out`, each with its NUL, whose positions go into `out_ends`."""
    at = 0
    for i in range(rows.size):
        row = rows[i]
        start = ends[row - 1] + 1 if row else 0
        for j in range(start, ends[row] + 1):
            out[at] = text[j]
            at += 1
        out_ends[i] = at - 1


@kernel
def hash_keys(keys: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n,) FNV-1a hashes of the n keys that lie one behind the other in `keys` and end before `ends`."""
    hashes = np.empty(len(ends), np.uint64)
    start = 0
    for i in range(len(ends)):
        value = np.uint64(0xCBF29CE484222325)
        for at in range(start, ends[i]):
            value = (value ^ np.uint64(keys[at])) * np.uint64(0x100000001B3)
        hashes[i] = value
        start = ends[i]
    return hashes
