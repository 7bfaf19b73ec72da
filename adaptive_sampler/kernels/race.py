"""Weighted draws without replacement: a race of exponential arrival times, of which the first k are in."""

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel

# The same numbers on every platform, for the reasons in draw.py: hence a logarithm of our own.

_SAMPLE = 1 << 17  # rows raced first, at most, to guess when the k-th arrives; the result never depends on it
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_WORD = 1 << 64
_ONE = np.uint64(1)
_LN2 = 0.6931471805599453


@numba.extending.intrinsic
def _popcount(typing_context: Any, word: Any) -> Any:
    """Set bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sext(builder.ctpop(args[0]), context.get_value_type(signature.return_type))

    return numba.types.int64(numba.types.uint64), generate


@numba.extending.intrinsic
def _lowest(typing_context: Any, word: Any) -> Any:
    """Position of the lowest set bit of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], numba.core.cgutils.true_bit)

    return numba.types.int64(numba.types.uint64), generate


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
def _hash(key: Any, i: Any) -> Any:
    """The i-th number of SplitMix64's sequence that starts at `key`."""
    x = np.uint64(key) + np.uint64(i) * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


@kernel
def _exponential(key: Any, row: Any) -> Any:
    """-log(u) of the row's uniform u in (0, 1), to a relative 1e-10: when the row arrives at rate 1."""
    u = (np.float64(np.int64(_hash(key, row) >> np.uint64(12))) + 0.5) * (1.0 / (1 << 52))
    bits = _bits_of(u) + np.uint64(0x0009_5F61_9980_C433)  # takes the mantissa to [sqrt(1/2), sqrt(2))
    exponent = np.int64(bits >> np.uint64(52)) - 1023
    m = _float_of((bits & np.uint64(0x000F_FFFF_FFFF_FFFF)) + np.uint64(0x3FE6_A09E_667F_3BCD))
    s = (m - 1.0) / (m + 1.0)  # log(m) = 2 artanh(s) is exact to the last bits where u is near 1
    z = s * s
    log = s * (2.0 + z * (2 / 3 + z * (2 / 5 + z * (2 / 7 + z * (2 / 9 + z * (2 / 11))))))
    return -(np.float64(exponent) * _LN2 + log)


@kernel
def _arrivals(key: Any, weights: Any, rows: Any, out: Any) -> None:
    for i in range(rows.size):
        out[i] = _exponential(key, rows[i]) / np.float64(weights[rows[i]])


@kernel
def _race(key: Any, weights: Any, low: Any, high: Any, first: Any, words: Any, rows: Any, m: Any) -> Any:
    """Mark the rows that arrive before `low`; list those in [low, high) from rows[m] on, as far as it has
    room.

    weights: whole words of 64, the first of them row `first`. Returns (rows before low, m plus the rows
    inside).
    """
    before = 0
    times = np.empty(64, np.float64)
    for w in range(words.size):
        start = np.uint64(key) + np.uint64(first + (w << 6)) * _GOLDEN
        block = weights[w << 6 : (w << 6) + 64]
        for i in range(64):
            times[i] = _exponential(start, i)
        early = np.uint64(0)
        late = np.uint64(0)
        for i in range(64):
            weight = np.float64(block[i])
            early |= np.uint64(times[i] < low * weight) << np.uint64(i)
            late |= np.uint64(not times[i] < high * weight) << np.uint64(i)
        words[w] = early
        before += _popcount(early)
        inside = ~(early | late)
        count = _popcount(inside)
        if m + count <= rows.size:
            at = m
            while inside:
                rows[at] = first + (w << 6) + _lowest(inside)
                inside &= inside - _ONE
                at += 1
        m += count
    return before, m


@kernel
def _set(words: Any, rows: Any) -> None:
    for row in rows:
        words[row >> 6] |= _ONE << np.uint64(row & 63)


def _stream(key: int, use: int) -> np.uint64:
    """The start of the SplitMix64 sequence for one use of a 64-bit key."""
    x = (int(key) + (use + 1) * int(_GOLDEN)) % _WORD
    x = (x ^ (x >> 30)) * int(_MIX1) % _WORD
    x = (x ^ (x >> 27)) * int(_MIX2) % _WORD
    return np.uint64(x ^ (x >> 31))


def sample_without_replacement(weights: NDArray[np.float32], k: int, *, key: int) -> NDArray[np.uint8]:
    """k rows drawn one after another with p ∝ the weights of those left, as a bitmap: (ceil(n/8),) uint8.

    `weights` is (n,) float32, finite, at least 0 (the caller checks). Each row arrives after an exponential
    time of its own (key, row) at the rate of its weight, and the first k are in, as in torch.multinomial. A
    row without weight never arrives: where fewer than k have one, all those are set.
    """
    weights = np.ascontiguousarray(weights, np.float32)
    n = len(weights)
    start = _stream(key, 0)
    words = np.zeros(-(-n // 64), np.uint64)
    deviations = 4.0
    while k > 0 and n > 0:
        low, high, room = _guess(start, weights, k, deviations)
        rows = np.empty(room, np.int32 if n < 2**31 else np.int64)
        before, m = _pass(start, weights, low, high, words, rows)
        if m <= room and before <= k and (before + m >= k or high == math.inf):
            rows = rows[:m]
            if before + m > k:
                times = np.empty(m)
                _arrivals(start, weights, rows, times)
                rows = rows[np.argsort(times)[: k - before]]
            _set(words, rows)
            break
        deviations *= 4
    return words.astype("<u8", copy=False).view(np.uint8)[: -(-n // 8)]


def _pass(
    start: np.uint64,
    weights: NDArray[np.float32],
    low: float,
    high: float,
    words: NDArray[np.uint64],
    rows: NDArray[Any],
) -> tuple[int, int]:
    """`_race` over whole words of rows and then over the rest, padded with rows that never arrive."""
    whole = len(weights) // 64
    rest = np.zeros(64 if len(weights) % 64 else 0, np.float32)
    rest[: len(weights) % 64] = weights[whole * 64 :]
    before, m = _race(start, weights[: whole * 64], low, high, 0, words[:whole], rows, 0)
    more, m = _race(start, rest, low, high, whole * 64, words[whole:], rows, m)
    return before + more, m


def _guess(start: np.uint64, weights: NDArray[np.float32], k: int, deviations: float) -> tuple[float, float, int]:
    """(low, high, room): the k-th arrival is hardly ever outside [low, high), nor are there more than room in
    it."""
    n = len(weights)
    size = min(_SAMPLE, n // 64)
    share = min(k / n, 1.0)
    slack = deviations * math.sqrt(share * (1 - share) / max(size, 1)) + 8 / max(size, 1)
    if slack >= 0.25:
        return 0.0, math.inf, n
    rows = np.arange(size, dtype=np.int64) * (n // size)
    rows += np.arange(size, dtype=np.int64) * 0x9E3779B1 % (n // size)  # so that no period can hide
    times = np.empty(size)
    _arrivals(start, weights, rows, times)
    times.sort()
    low = float(times[int((share - slack) * size)]) if share > slack else 0.0
    high = float(times[int((share + slack) * size)]) if share + slack < 1 else math.inf
    return low, high, min(n, int(4 * slack * n))
