"""Hash and look up strings that lie end to end in one byte array."""

import numpy as np

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
        start = ends[i]
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
def first_twice(hashes, order, text, ends):
    """The smallest pair of positions that hold the same string, or (-1, -1). `hashes` sorted, `order` stable."""
    best = (-1, -1)
    for i in range(1, hashes.size):
        j = i - 1
        while j >= 0 and hashes[j] == hashes[i]:
            a, b = order[j], order[i]
            a_start = ends[a - 1] if a else 0
            b_start = ends[b - 1] if b else 0
            if _equal(text, a_start, ends[a], text, b_start, ends[b]) and (best[0] < 0 or b < best[1]):
                best = (a, b)
            j -= 1
    return best


@kernel
def find(wanted, wanted_text, wanted_ends, hashes, order, text, ends):
    """The position of each wanted string among those in the table, or -1: binary search, then compare the strings."""
    rows = np.full(wanted.size, -1, np.int64)
    for i in range(wanted.size):
        start = wanted_ends[i - 1] if i else 0
        low, high = 0, hashes.size
        while low < high:
            middle = (low + high) // 2
            if hashes[middle] < wanted[i]:
                low = middle + 1
            else:
                high = middle
        while low < hashes.size and hashes[low] == wanted[i]:
            row = order[low]
            row_start = ends[row - 1] if row else 0
            if _equal(wanted_text, start, wanted_ends[i], text, row_start, ends[row]):
                rows[i] = row
                break
            low += 1
    return rows
