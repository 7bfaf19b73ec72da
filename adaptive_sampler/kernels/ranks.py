"""Rank numbers: a stable radix sort of 11 bits a pass, mean ranks where numbers are equal, and the correlation of ranks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel

_DIGIT = np.uint64(11)
_SIZE = 1 << 11
_MASK = np.uint64(_SIZE - 1)
_BLOCK = 4096  # products that are added up before they are added to the sum, whose error so stays small


@kernel
def _count(keys: Any, counts: Any) -> None:
    """How often each digit occurs, in each pass. counts: (passes, 2048)."""
    for i in range(keys.size):
        rest = np.uint64(keys[i])
        for number in range(counts.shape[0]):
            counts[number, rest & _MASK] += 1
            rest >>= _DIGIT


@kernel
def _move(keys: Any, rows: Any, shift: Any, starts: Any, sorted_keys: Any, sorted_rows: Any) -> None:
    """One pass: keys and their rows in the order of one digit. `rows` empty: row i is the i-th."""
    for i in range(keys.size):
        digit = (np.uint64(keys[i]) >> shift) & _MASK
        place = starts[digit]
        starts[digit] = place + 1
        sorted_keys[place] = keys[i]
        sorted_rows[place] = rows[i] if rows.size else i


@kernel
def _mean_ranks(keys: Any, rows: Any, ranks: Any) -> None:
    """Twice the mean rank of each row, counted from 1: of equal keys at places i … j − 1, i + j + 1."""
    i = 0
    while i < keys.size:
        j = i + 1
        while j < keys.size and keys[j] == keys[i]:
            j += 1
        for k in range(i, j):
            ranks[rows[k]] = i + j + 1
        i = j


@kernel
def _products(a: Any, b: Any, out: Any) -> None:
    """Sums of squares and products of doubled ranks about their mean, which is n + 1: aa, ab, bb."""
    mean = np.int64(a.size + 1)
    for first in range(0, a.size, _BLOCK):
        aa = ab = bb = 0.0
        for i in range(first, min(first + _BLOCK, a.size)):
            x, y = np.float64(np.int64(a[i]) - mean), np.float64(np.int64(b[i]) - mean)
            aa += x * x
            ab += x * y
            bb += y * y
        out[0] += aa
        out[1] += ab
        out[2] += bb


def sort_keys(values: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers that sort as the float32 or float64 `values` do: −0 is 0, and NaN is not asked for."""
    word = np.uint32 if values.dtype == np.float32 else np.uint64
    bits = (values + values.dtype.type(0)).view(word)  # −0 + 0 is 0
    top = word(1) << word(8 * bits.itemsize - 1)
    keys: NDArray[Any] = np.where(bits & top, ~bits, bits | top)
    return keys


def ordered(keys: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """(sorted keys, the rows in that order, as a stable argsort gives them): of fewer than 2³² unsigned integers."""
    passes = -(-8 * keys.itemsize // 11)
    counts = np.zeros((passes, _SIZE), np.int64)
    _count(keys, counts)
    rows = np.empty(0, np.uint32)
    spare, spare_rows = np.empty_like(keys), np.empty(len(keys), np.uint32)
    given = keys
    for number in range(passes):
        if counts[number].max(initial=0) == len(keys) and len(rows):  # all have one digit here
            continue
        starts = np.cumsum(counts[number]) - counts[number]
        _move(keys, rows, np.uint64(11 * number), starts, spare, spare_rows)
        keys, spare = spare, np.empty_like(keys) if keys is given else keys
        rows, spare_rows = spare_rows, rows if len(rows) else np.empty(len(keys), np.uint32)
    return keys, rows


def mean_ranks(keys: NDArray[Any], rows: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Twice the mean rank of each row, counted from 1, (n,): `keys`, `rows` as `ordered` gives them, fewer than 2³¹."""
    ranks = np.empty(len(keys), np.uint32)
    _mean_ranks(keys, rows, ranks)
    return ranks


def correlation(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> float:
    """The correlation of two arrays of doubled mean ranks, (n,) each: Spearman's. NaN if one has a single value."""
    sums = np.zeros(3)
    _products(a, b, sums)
    return float(sums[1] / np.sqrt(sums[0] * sums[2])) if sums[0] and sums[2] else float("nan")
