"""Random order: an exactly uniform shuffle where an array may exist, a keyed permutation where not."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.bits import Bits, words_of
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import lowest
from adaptive_sampler.kernels.splitmix import number, stream

ROUNDS = 8  # of the network; 4 are measurably not random, 6 pass every test of ours
# The most entries that a bucket holds on average: they are shuffled in the second-level cache, and few buckets are filled
# at a time. Part of the format, as the bounds in walk/order.py are: with another number every order that needs several
# buckets is another one, and a state saved within an epoch would go on elsewhere. See FORMAT in walk/resume.py.
_BUCKET = 1 << 18
_CHUNK = 1024
_LOW32 = np.uint64(0xFFFFFFFF)


@kernel
def _number(key: Any, first: Any, words: Any) -> None:
    """Numbers of the entries from `first` on, a multiple of 4: one hash gives four of them 16 bits each."""
    for i in range(words.size):
        words[i] = number(key, (first >> 2) + i)


@kernel
def _count_buckets(key: Any, total: Any, shift: Any, counts: Any) -> None:
    """How many of `total` entries fall into each bucket."""
    words = np.empty(_CHUNK // 4, np.uint64)
    lanes = words.view(np.uint16)
    for first in range(0, total, _CHUNK):
        _number(key, first, words)
        for i in range(min(_CHUNK, total - first)):
            counts[lanes[i] >> shift] += 1


@kernel
def _put(rows: Any, first: Any, key: Any, shift: Any, cursor: Any, words: Any, out: Any) -> None:
    """Put up to a chunk of entries, the first of them number `first`, into their buckets."""
    lanes = words.view(np.uint16)
    _number(key, first & ~3, words)
    for i in range(rows.size):
        bucket = lanes[(first & 3) + i] >> shift
        at = cursor[bucket]
        out[at] = rows[i]
        cursor[bucket] = at + np.uint64(1)


@kernel
def _scatter(rows: Any, first: Any, key: Any, shift: Any, cursor: Any, out: Any) -> Any:
    """Put `rows`, numbered from `first` on, into their buckets; returns the number after the last."""
    words = np.empty(_CHUNK // 4 + 1, np.uint64)
    for start in range(0, rows.size, _CHUNK):
        _put(rows[start : start + _CHUNK], first + start, key, shift, cursor, words, out)
    return first + rows.size


@kernel
def _scatter_kept(words: Any, tail: Any, key: Any, shift: Any, cursor: Any, out: Any) -> Any:
    """As `_scatter`, the rows set in a bitmap, numbered from 0 on."""
    numbers = np.empty(_CHUNK // 4 + 1, np.uint64)
    some = np.empty(_CHUNK, out.dtype)
    first, m = 0, 0
    for i in range(words.size + 1):
        if m + 64 > _CHUNK:
            _put(some[:m], first, key, shift, cursor, numbers, out)
            first += m
            m = 0
        word = words[i] if i < words.size else tail
        while word:
            some[m] = (i << 6) + lowest(word)
            word &= word - np.uint64(1)
            m += 1
    _put(some[:m], first, key, shift, cursor, numbers, out)
    return first + m


@kernel
def _scatter_repeated(rows: Any, repeats: Any, first: Any, key: Any, shift: Any, cursor: Any, out: Any) -> Any:
    """As `_scatter`, each row `repeats` times."""
    words = np.empty(_CHUNK // 4 + 1, np.uint64)
    some = np.empty(_CHUNK, rows.dtype)
    m = 0
    for r in range(rows.size):
        left: Any = np.int64(repeats[r])
        while left > 0:
            if m + 4 > _CHUNK:
                _put(some[:m], first, key, shift, cursor, words, out)
                first += m
                m = 0
            for i in range(4):  # four at once, of which `left` stay: how many is not predictable
                some[m + i] = rows[r]
            m += min(left, 4)
            left -= 4
    _put(some[:m], first, key, shift, cursor, words, out)
    return first + m


@kernel
def _below(key: Any, i: Any, bound: Any) -> Any:
    """Lemire's integer in [0, bound), bound < 2**32, exactly uniform: a number that would favour some is
    redrawn."""
    x = number(key, i)
    product = (x >> np.uint64(32)) * bound
    if product & _LOW32 < bound:
        while product & _LOW32 < (np.uint64(1 << 32) - bound) % bound:
            x = number(x, 1)
            product = (x >> np.uint64(32)) * bound
    return np.int64(product >> np.uint64(32))


@kernel
def _shuffle_buckets(key: Any, ends: Any, out: Any) -> Any:
    """Fisher-Yates inside each bucket; the numbers come a chunk ahead of the swaps, so that they are
    vectorised."""
    picks = np.empty(_CHUNK, np.int64)
    first = 0
    for bucket in range(ends.size):
        last = ends[bucket]
        for start in range(first, last, _CHUNK):
            stop = min(start + _CHUNK, last)
            unfair = np.int64(0)
            for i in range(start, stop):
                bound = np.uint64(i - first + 1)
                product = (number(key, i) >> np.uint64(32)) * bound
                unfair += np.int64(product & _LOW32 < bound)
                picks[i - start] = np.int64(product >> np.uint64(32))
            if unfair:  # perhaps: `_below` says
                for i in range(start, stop):
                    picks[i - start] = _below(key, i, np.uint64(i - first + 1))
            for i in range(start, stop):
                j = first + picks[i - start]
                out[i], out[j] = out[j], out[i]
        first = last


@kernel
def _shuffle_one(key: Any, out: Any) -> None:
    """As `_shuffle_buckets`, of one bucket; `key`: that of the whole shuffle."""
    _shuffle_buckets(number(key, 2), np.full(1, out.size), out)


@kernel
def _round(half: Any, key: Any, span: Any) -> Any:
    """A number in [0, span) that depends on all of a half and of the round's 64-bit key; 32-bit lanes
    throughout."""
    x = np.uint32(np.uint32(half + np.uint32(key)) * np.uint32(0x9E3779B1))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
    x = np.uint32(np.uint32(x ^ np.uint32(key >> np.uint64(32))) * np.uint32(0x85EBCA77))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0xC2B2AE3D))
    return np.uint32((np.uint64(x) * np.uint64(span)) >> np.uint64(32))


@kernel
def _permute(at: Any, a: Any, b: Any, keys: Any) -> None:
    """Replace each of `at` by its image under a keyed bijection of [0, a·b), a and b < 2**31, a·b < 2**53.

    A Feistel network whose halves are added modulo a and b (Black and Rogaway), a chunk of numbers round by
    round, as LLVM vectorises it only so.
    """
    left = np.empty(_CHUNK, np.uint32)
    right = np.empty(_CHUNK, np.uint32)
    inverse = 1.0 / b
    wide_a, wide_b = np.uint32(a), np.uint32(b)
    for first in range(0, at.size, _CHUNK):
        size = min(_CHUNK, at.size - first)
        for i in range(size):
            q = np.int64(np.float64(at[first + i]) * inverse)
            r = at[first + i] - q * b
            q += np.int64(r >= b) - np.int64(r < 0)  # the float quotient is off by one at most
            left[i] = np.uint32(q)
            right[i] = np.uint32(at[first + i] - q * b)
        for k in range(0, keys.size, 2):
            for i in range(size):
                x = np.uint32(left[i] + _round(right[i], keys[k], wide_a))
                x = min(x, np.uint32(x - wide_a))  # x mod a: where x < a the difference wraps to above it
                y = np.uint32(right[i] + _round(x, keys[k + 1], wide_b))
                left[i] = x
                right[i] = min(y, np.uint32(y - wide_b))
        for i in range(size):
            at[first + i] = np.int64(left[i]) * b + np.int64(right[i])


def few(total: int) -> bool:
    """Whether so many entries fill no more than one bucket, so that they are shuffled where they lie."""
    return total <= _BUCKET


def shuffle_few(rows: NDArray[Any], *, key: int) -> None:
    """Bring `rows`, which are `few`, into the order that `Shuffle` gives them."""
    _shuffle_one(np.uint64(key), rows)


class Shuffle:
    """Rao and Sandelius' shuffle of `total` entries that arrive in pieces: a bucket each at random, then
    Fisher-Yates inside the buckets. Every order is equally likely. It holds one array of `total` and reads
    nothing twice."""

    def __init__(self, total: int, dtype: type[np.int32] | type[np.int64], *, key: int) -> None:
        bits = min(16, max(0, (max(total, 1) - 1) // _BUCKET).bit_length())
        self._shift = np.uint16(16 - bits)
        self._buckets, self._swaps = stream(key, 0), stream(key, 1)
        counts = np.full(1 << bits, 0 if bits else total)
        if bits:
            _count_buckets(self._buckets, total, self._shift, counts)
        self._ends = np.cumsum(counts)
        self._cursor = (self._ends - counts).astype(np.uint64)
        self._filled = 0
        self._out = np.empty(total, dtype)

    def add(self, rows: NDArray[Any], repeats: NDArray[Any] | None = None) -> None:
        """The next entries: `rows` in turn, each `repeats` times ((len(rows),) integers) or once."""
        where = self._buckets, self._shift, self._cursor, self._out
        if repeats is None and len(self._ends) == 1:
            self._filled, first = self._filled + len(rows), self._filled
            self._out[first : self._filled] = rows
        elif repeats is None:
            self._filled = _scatter(rows, self._filled, *where)
        else:
            self._filled = _scatter_repeated(rows, repeats, self._filled, *where)

    def add_kept(self, bits: Bits) -> None:
        """All entries: the rows set in a bitmap."""
        self._filled = _scatter_kept(*words_of(bits), self._buckets, self._shift, self._cursor, self._out)

    def finish(self) -> NDArray[Any]:
        """All `total` entries in random order."""
        _shuffle_buckets(self._swaps, self._ends, self._out)
        return self._out


class Network:
    """A keyed permutation of [0, total) that holds no array and gives any position's image by itself.

    total < 2**52. Hardly any position is mapped twice, as a·b exceeds `total` by less than a.
    """

    def __init__(self, total: int, *, key: int) -> None:
        self._total = total
        self._a = max(1, math.isqrt(total))
        self._b = -(-total // self._a)
        self._keys = np.array([stream(key, 2 + r) for r in range(ROUNDS)], np.uint64)

    def images(self, start: int, stop: int, step: int = 1) -> NDArray[np.int64]:
        """The images of start, start + step, … below stop <= total."""
        out = np.arange(start, stop, step, dtype=np.int64)
        _permute(out, self._a, self._b, self._keys)
        outside = np.flatnonzero(out >= self._total)
        while len(outside):  # walk the cycle until it comes back inside
            some = out[outside]
            _permute(some, self._a, self._b, self._keys)
            out[outside] = some
            outside = outside[some >= self._total]
        return out
