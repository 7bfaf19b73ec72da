"""Weighted draws: independent ones with replacement as counts, and successive ones without as a bitmap."""

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel

# The same numbers on every platform: integers, comparisons and single IEEE additions, multiplications and divisions
# in a fixed order; no libm (hence a logarithm of our own), no fused multiply-add (Numba makes none), no fastmath.

_BLOCK = 1 << 12  # rows whose cumulated weights stay in the first-level cache while they are drawn from
_SAMPLE = 1 << 16  # rows raced first, to guess where the k-th place lies; the guess never changes the result
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_WORD = 1 << 64
_ULP53 = 2.0**-53
_LN2 = 0.6931471805599453


@numba.extending.intrinsic
def _float_of(typing_context: Any, word: Any) -> Any:
    """The float64 with these 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return numba.types.float64(numba.types.uint64), generate


@numba.extending.intrinsic
def _bits_of(typing_context: Any, value: Any) -> Any:
    """The 64 bits of a float64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return numba.types.uint64(numba.types.float64), generate


@kernel
def _hash(key, i):  # type: ignore[no-untyped-def]
    """The i-th number of SplitMix64's sequence that starts at `key`."""
    x = np.uint64(key) + np.uint64(i) * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


@kernel
def _uniform(key, i):  # type: ignore[no-untyped-def]
    """In [0, 1), a multiple of 2**-53."""
    return np.float64(np.int64(_hash(key, i) >> np.uint64(11))) * _ULP53


@kernel
def _block_sums(weights, sums):  # type: ignore[no-untyped-def]
    """Sum of each block in float64, eight partial sums each, in one fixed order."""
    part = np.empty(8, np.float64)
    for b in range(sums.size):
        part[:] = 0.0
        first = b * _BLOCK
        last = min(first + _BLOCK, weights.size)
        whole = first + (last - first) // 8 * 8
        for i in range(first, whole, 8):
            for j in range(8):
                part[j] += np.float64(weights[i + j])
        for i in range(whole, last):
            part[i - whole] += np.float64(weights[i])
        total = 0.0
        for j in range(8):
            total += part[j]
        sums[b] = total


@kernel
def _prepare(weights, ends, guide):  # type: ignore[no-untyped-def]
    """ends: cumulated weights.  guide[c]: the first entry whose end is beyond the share c / len(guide); returns the
    number of the last entry with a weight."""
    total = 0.0
    last = 0
    for i in range(weights.size):
        total += np.float64(weights[i])
        ends[i] = total
        if weights[i] > 0:
            last = i
    at = 0
    share = 1.0 / guide.size
    for c in range(guide.size):
        start = (c * share) * total
        while at < last and ends[at] <= start:
            at += 1
        guide[c] = at
    return last


@kernel
def _draw(key, first, num, ends, total, last, guide, counts, offset):  # type: ignore[no-untyped-def]
    """Add `num` draws to counts[offset:], p ∝ the weights that `_prepare` saw. Draw i uses number first + i. The guide
    is a power of two long, so a cell is exact and its start never lies beyond the draw."""
    cells = np.float64(guide.size)
    for i in range(first, first + num):
        u = _uniform(key, i)
        at = np.int64(guide[np.int64(u * cells)])
        target = u * total
        while at < last and ends[at] <= target:  # a row without weight ends where the one before does: never chosen
            at += 1
        counts[offset + at] += np.uint32(1)


@kernel
def _fill(key, num_by_block, weights, counts):  # type: ignore[no-untyped-def]
    """Draw within each block as often as the block itself was drawn."""
    ends = np.empty(_BLOCK, np.float64)
    guide = np.empty(_BLOCK, np.int16)
    done = 0
    for b in range(num_by_block.size):
        num = np.int64(num_by_block[b])
        if num == 0:
            continue
        first = b * _BLOCK
        size = min(_BLOCK, weights.size - first)
        last = _prepare(weights[first : first + size], ends, guide)
        _draw(key, done, num, ends, ends[size - 1], last, guide, counts, first)
        done += num


@kernel
def _exponential(key, row):  # type: ignore[no-untyped-def]
    """-log(u) of the row's uniform u in (0, 1), to a relative 1e-10: the row's time at rate 1."""
    u = (np.float64(np.int64(_hash(key, row) >> np.uint64(12))) + 0.5) * (2.0 * _ULP53)
    bits = _bits_of(u) + np.uint64(0x0009_5F61_9980_C433)  # moves the mantissa's range to [sqrt(1/2), sqrt(2))
    exponent = np.int64(bits >> np.uint64(52)) - 1023
    m = _float_of((bits & np.uint64(0x000F_FFFF_FFFF_FFFF)) + np.uint64(0x3FE6_A09E_667F_3BCD))
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = 2.0 / 9.0 + z * (2.0 / 11.0 + z * (2.0 / 13.0 + z * (2.0 / 15.0)))
    log = s * (2.0 + z * (2.0 / 3.0 + z * (2.0 / 5.0 + z * (2.0 / 7.0 + z * p))))
    return -(np.float64(exponent) * _LN2 + log)


@kernel
def _race_some(key, weights, rows, out):  # type: ignore[no-untyped-def]
    for i in range(rows.size):
        out[i] = _exponential(key, rows[i]) / np.float64(weights[rows[i]])


@kernel
def _race(key, weights, low, high, words, rows):  # type: ignore[no-untyped-def]
    """Mark rows that arrive before `low`; list those that arrive in [low, high) as far as `rows` has room.
    Returns the numbers of both."""
    before = 0
    m = 0
    times = np.empty(64, np.float64)
    for w in range(words.size):
        first = w << 6
        size = min(64, weights.size - first)
        for i in range(size):
            times[i] = _exponential(key, first + i)
        word = np.uint64(0)
        inside = 0
        for i in range(size):
            weight = np.float64(weights[first + i])
            early = times[i] < low * weight
            word |= np.uint64(early) << np.uint64(i)
            before += early
            inside += not early and times[i] < high * weight
        words[w] = word
        if inside and m + inside <= rows.size:
            at = m
            for i in range(size):
                weight = np.float64(weights[first + i])
                if not times[i] < low * weight and times[i] < high * weight:
                    rows[at] = first + i
                    at += 1
        m += inside
    return before, m


@kernel
def _set(words, rows):  # type: ignore[no-untyped-def]
    for row in rows:
        words[row >> 6] |= np.uint64(1) << np.uint64(row & 63)


def _stream(key: int, use: int) -> np.uint64:
    """The start of the SplitMix64 sequence for one use of a 64-bit key."""
    x = (int(key) + (use + 1) * int(_GOLDEN)) % _WORD
    x = (x ^ (x >> 30)) * int(_MIX1) % _WORD
    x = (x ^ (x >> 27)) * int(_MIX2) % _WORD
    return np.uint64(x ^ (x >> 31))


def multinomial_counts(weights: NDArray[np.float32], num_samples: int, *, key: int) -> NDArray[np.uint32]:
    """How often each row comes up in `num_samples` independent draws with p ∝ weights: (n,) uint32.

    `weights` is (n,) float32, finite, at least 0, one of them positive (the caller checks). A draw picks a block by
    the blocks' float64 sums, then a row in it; a row without weight never comes up. Linear in n + num_samples.
    """
    weights = np.ascontiguousarray(weights, np.float32)
    counts = np.zeros(len(weights), np.uint32)
    if num_samples == 0:
        return counts
    blocks = -(-len(weights) // _BLOCK)
    sums, ends = np.empty(blocks), np.empty(blocks)
    guide = np.empty(1 << max(0, blocks - 1).bit_length(), np.int32)
    by_block = np.zeros(blocks, np.uint32)
    _block_sums(weights, sums)
    last = _prepare(sums, ends, guide)
    _draw(_stream(key, 0), 0, num_samples, ends, ends[-1], last, guide, by_block, 0)
    _fill(_stream(key, 1), by_block, weights, counts)
    return counts


def sample_without_replacement(weights: NDArray[np.float32], k: int, *, key: int) -> NDArray[np.uint8]:
    """k rows drawn one after another with p ∝ the weights of those left, as a bitmap: (ceil(n/8),) uint8.

    `weights` as for `multinomial_counts`. Each row arrives after an exponential time of its (key, row) at the rate of
    its weight, and the first k are in; rows without weight never arrive, so fewer are set where fewer have one.
    """
    weights = np.ascontiguousarray(weights, np.float32)
    n = len(weights)
    words = np.zeros(-(-n // 64), np.uint64)
    bits = words.astype("<u8", copy=False).view(np.uint8)[: -(-n // 8)]
    start = _stream(key, 2)
    deviations = 5.0
    while k > 0:
        low, high, room = _guess(start, weights, k, deviations)
        rows = np.empty(room, np.int64)
        before, m = _race(start, weights, low, high, words, rows)
        if m <= room and before <= k and (before + m >= k or high == math.inf):
            rows = rows[:m]
            if before + m > k:
                times = np.empty(m)
                _race_some(start, weights, rows, times)
                rows = rows[np.argpartition(times, k - before)[: k - before]]
            _set(words, rows)
            break
        deviations *= 4
    return bits


def _guess(start: np.uint64, weights: NDArray[np.float32], k: int, deviations: float) -> tuple[float, float, int]:
    """(low, high, room): the k-th arrival is hardly ever outside [low, high), which hardly ever holds > room rows."""
    n = len(weights)
    size = min(n, _SAMPLE)
    share = k / n
    slack = deviations * math.sqrt(max(share * (1 - share), 0) / size) + 8 / size
    if slack >= 0.5 or n < 4 * size:
        return 0.0, math.inf, n
    rows = np.arange(size, dtype=np.int64) * (n // size)
    rows += (np.random.Generator(np.random.PCG64(int(start))).random(size) * (n // size)).astype(np.int64)
    times = np.empty(size)
    _race_some(start, weights, rows, times)
    times.sort()
    low = float(times[int((share - slack) * size)]) if share > slack else 0.0
    high = float(times[int((share + slack) * size)]) if share + slack < 1 else math.inf
    return low, high, min(n, int(4 * slack * n))
