"""Random order: an exactly uniform shuffle where an array may exist, a keyed permutation of positions where not."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel

ROUNDS = 8  # of the network; 4 are measurably not random, 6 pass every test of ours
_BUCKET = 1 << 15  # entries a bucket holds on average: they are shuffled inside the second-level cache
_CHUNK = 1024
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_LOW32 = np.uint64(0xFFFFFFFF)
_WORD = 1 << 64


@kernel
def _hash(key, i):  # type: ignore[no-untyped-def]
    """The i-th number of SplitMix64's sequence that starts at `key`."""
    x = np.uint64(key) + np.uint64(i) * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


@kernel
def _count_buckets(key, total, shift, counts):  # type: ignore[no-untyped-def]
    """How many of `total` entries fall into each bucket; one hash gives four entries 16 bits each."""
    for i in range(0, total, 4):
        word = _hash(key, i >> 2)
        for j in range(min(4, total - i)):
            counts[np.int64((word >> np.uint64(16 * j)) & np.uint64(0xFFFF)) >> shift] += 1


@kernel
def _scatter(rows, repeats, first, key, shift, cursor, out):  # type: ignore[no-untyped-def]
    """Put the entries of `rows` (each `repeats` times, once where that is empty) into their buckets; returns their
    number. `first` is the number of the first of them among all entries, which is what its bucket depends on."""
    entry = first
    word = _hash(key, entry >> 2) >> np.uint64(16 * (entry & 3))
    for r in range(rows.size):
        for _ in range(repeats[r] if repeats.size else 1):
            if entry & 3 == 0:
                word = _hash(key, entry >> 2)
            bucket = np.int64(word & np.uint64(0xFFFF)) >> shift
            word >>= np.uint64(16)
            out[cursor[bucket]] = rows[r]
            cursor[bucket] += 1
            entry += 1
    return entry - first


@kernel
def _below(key, i, bound):  # type: ignore[no-untyped-def]
    """Lemire's integer in [0, bound), bound < 2**32, exactly uniform: a number that would favour some is redrawn."""
    x = _hash(key, i)
    product = (x >> np.uint64(32)) * bound
    if product & _LOW32 < bound:
        while product & _LOW32 < (np.uint64(1 << 32) - bound) % bound:
            x = _hash(x, 1)
            product = (x >> np.uint64(32)) * bound
    return np.int64(product >> np.uint64(32))


@kernel
def _shuffle_buckets(key, ends, out):  # type: ignore[no-untyped-def]
    """Fisher-Yates inside each bucket; the numbers come a chunk ahead of the swaps, so that they are vectorised."""
    picks = np.empty(_CHUNK, np.int64)
    first = 0
    for bucket in range(ends.size):
        last = ends[bucket]
        for start in range(first, last, _CHUNK):
            stop = min(start + _CHUNK, last)
            for i in range(start, stop):
                bound = np.uint64(i - first + 1)
                picks[i - start] = np.int64(((_hash(key, i) >> np.uint64(32)) * bound) >> np.uint64(32))
            for i in range(start, stop):
                bound = np.uint64(i - first + 1)
                if ((_hash(key, i) >> np.uint64(32)) * bound) & _LOW32 < bound:
                    picks[i - start] = _below(key, i, bound)
            for i in range(start, stop):
                j = first + picks[i - start]
                out[i], out[j] = out[j], out[i]
        first = last


@kernel
def _round(half, key):  # type: ignore[no-untyped-def]
    """32 bits that depend on all of a half and of the round's key."""
    x = np.uint32(np.uint32(half) * np.uint32(0x9E3779B1) + np.uint32(key))
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x735A2D97))
    return np.uint32(x ^ (x >> np.uint32(15)))


@kernel
def _permute(at, a, b, keys):  # type: ignore[no-untyped-def]
    """A keyed bijection of [0, a·b): a Feistel network whose halves are added modulo a and b (Black and Rogaway)."""
    left = np.uint64(at // b)
    right = np.uint64(at - np.int64(left) * b)
    a, b = np.uint64(a), np.uint64(b)
    for r in range(0, ROUNDS, 2):
        left += (np.uint64(_round(right, keys[r])) * a) >> np.uint64(32)
        left -= a if left >= a else np.uint64(0)
        right += (np.uint64(_round(left, keys[r + 1])) * b) >> np.uint64(32)
        right -= b if right >= b else np.uint64(0)
    return np.int64(left * b + right)


@kernel
def _walk(start, step, total, a, b, keys, out):  # type: ignore[no-untyped-def]
    """out[i] = the image of start + i·step; images in [total, a·b) are mapped on until they fall inside."""
    for i in range(out.size):
        out[i] = _permute(start + i * step, a, b, keys)
    for i in range(out.size):
        while out[i] >= total:
            out[i] = _permute(out[i], a, b, keys)


def stream(key: int, use: int) -> np.uint64:
    """The start of the SplitMix64 sequence for one use of a 64-bit key."""
    x = (int(key) + (use + 1) * int(_GOLDEN)) % _WORD
    x = (x ^ (x >> 30)) * int(_MIX1) % _WORD
    x = (x ^ (x >> 27)) * int(_MIX2) % _WORD
    return np.uint64(x ^ (x >> 31))


class Shuffle:
    """Rao and Sandelius' shuffle of `total` entries that arrive in pieces: a bucket each at random, then Fisher-Yates
    inside the buckets. Every order is equally likely. It holds one array of `total` and reads nothing twice."""

    def __init__(self, total: int, dtype: type[np.int32] | type[np.int64], *, key: int) -> None:
        bits = min(16, max(0, (max(total, 1) - 1) // _BUCKET).bit_length())
        self._shift = 16 - bits
        self._buckets, self._swaps = stream(key, 0), stream(key, 1)
        counts = np.zeros(1 << bits, np.int64)
        _count_buckets(self._buckets, total, self._shift, counts)
        self._ends = np.cumsum(counts)
        self._cursor = self._ends - counts
        self._filled = 0
        self._out = np.empty(total, dtype)

    def add(self, rows: NDArray[Any], repeats: NDArray[Any] | None = None) -> None:
        """The next entries: `rows` in turn, each `repeats` times ((len(rows),) integers) or once."""
        times = np.empty(0, np.uint8) if repeats is None else repeats
        self._filled += _scatter(rows, times, self._filled, self._buckets, self._shift, self._cursor, self._out)

    def finish(self) -> NDArray[Any]:
        """All `total` entries in random order."""
        _shuffle_buckets(self._swaps, self._ends, self._out)
        return self._out


class Network:
    """A keyed permutation of [0, total) that holds no array and gives any position's image by itself.

    total < 2**62. Each image costs `ROUNDS` rounds; hardly any is mapped twice, as a·b exceeds `total` by less than a.
    """

    def __init__(self, total: int, *, key: int) -> None:
        self._total = total
        self._a = max(1, int(np.sqrt(total)))
        self._b = -(-total // self._a)
        self._keys = np.array([int(stream(key, 2 + r)) >> 32 for r in range(ROUNDS)], np.uint32)

    def images(self, start: int, count: int, step: int = 1) -> NDArray[np.int64]:
        """The images of start, start + step, … (`count` of them, all in [0, total))."""
        out = np.empty(count, np.int64)
        _walk(start, step, self._total, self._a, self._b, self._keys, out)
        return out
