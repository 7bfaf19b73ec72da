"""A race of exponential arrival times: the first k rows, or the first k arrivals of rows that arrive again and again."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.bits import row_dtype
from adaptive_sampler.kernels.identity import Identity, Names, RowIdentity, hash_places, row_hash, upper_halves
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import (
    above,
    below,
    bits_of_float32,
    bits_of_float64,
    float32_of,
    float64_of,
    lowest,
    popcount,
)
from adaptive_sampler.kernels.splitmix import number, stream
from adaptive_sampler.kernels.weigh import Weights, pieces

# The same numbers on every platform, for the reasons in draw.py: hence a logarithm of our own.

_SAMPLE = 1 << 17  # rows raced first, at most, to guess when the k-th arrives; the result never depends on it
_ONE = np.uint64(1)
_CHUNK = 256
_LN2 = 0.6931471805599453
# A rough arrival is within _DOUBT of the exact one, unless it comes after _LATE, as one in 2**16 does.
_DOUBT, _LATE = np.float32(2.0**-13), np.float32(11)


@kernel
def exponential(number: Any) -> Any:
    """-log(u) of a uniform u in (0, 1) of 52 bits, to a relative 1e-10: when a row arrives at rate 1."""
    u = (np.float64(np.int64(number)) + 0.5) * (1.0 / (1 << 52))
    bits = bits_of_float64(u) + np.uint64(0x0009_5F61_9980_C433)  # takes the mantissa to [sqrt(1/2), sqrt(2))
    exponent = np.int64(bits >> np.uint64(52)) - 1023
    m = float64_of((bits & np.uint64(0x000F_FFFF_FFFF_FFFF)) + np.uint64(0x3FE6_A09E_667F_3BCD))
    s = (m - 1.0) / (m + 1.0)  # log(m) = 2 artanh(s) is exact to the last bits where u is near 1
    z = s * s
    log = s * (2.0 + z * (2 / 3 + z * (2 / 5 + z * (2 / 7 + z * (2 / 9 + z * (2 / 11))))))
    return -(np.float64(exponent) * _LN2 + log)


@kernel
def _rough(upper: Any) -> Any:
    """`exponential` by float32 and the first 32 bits alone."""
    u = (np.float32(np.int32(upper >> np.uint32(1))) + np.float32(0.5)) * np.float32(2.0**-31)
    bits = np.uint32(bits_of_float32(u) + np.uint32(0x004A_FB0D))
    exponent = np.float32(np.int32(bits >> np.uint32(23)) - np.int32(127))
    m = float32_of(np.uint32(np.uint32(bits & np.uint32(0x007F_FFFF)) + np.uint32(0x3F35_04F3)))
    s = (m - np.float32(1)) / (m + np.float32(1))
    z = s * s
    log = s * (np.float32(2) + z * (np.float32(2 / 3) + z * (np.float32(2 / 5) + z * np.float32(2 / 7))))
    return -(exponent * np.float32(_LN2) + log)


@kernel
def arrivals(start: Any, hashes: Any, named: Any, weights: Any, rows: Any, out: Any) -> None:
    """When each of `rows`, of these weights, arrives first, into `out`, float64.

    start, hashes, named: as `hash_places` takes them.
    """
    numbers = np.empty(_CHUNK, np.uint64)
    for first in range(0, rows.size, _CHUNK):
        some, times, own = rows[first : first + _CHUNK], out[first : first + _CHUNK], weights[first : first + _CHUNK]
        hash_places(start, hashes, named, some, 0, numbers[: some.size])
        for i in range(some.size):  # a loop of its own, as LLVM vectorises it only so
            times[i] = exponential(numbers[i] >> np.uint64(12))
        for i in range(some.size):
            times[i] /= np.float64(own[i])


@kernel
def arrivals_before(
    start: Any, more: Any, hashes: Any, named: Any, weights: Any, rows: Any, high: Any, times: Any, places: Any
) -> Any:
    """All arrivals of each of `rows`, of these weights, before `high`: when, into `times`, and whose, into `places`; returns how
    many.

    Waits of a row's after the first are those of the numbers 1, 2, … of a sequence of its own. What there is no room for is
    counted only.
    """
    m = np.int64(0)
    for i in range(rows.size):
        row = rows[i]
        weight = np.float64(weights[i])
        name = hashes[row] if hashes.size else np.uint64(named[row] if named.size else row)
        waited = exponential((number(start, name) if hashes.size else row_hash(start, name)) >> np.uint64(12))
        waits = number(more, name)
        j = np.int64(0)
        while waited / weight < high:
            if m < times.size:
                times[m], places[m] = waited / weight, row
            m += 1
            j += 1
            waited += exponential(number(waits, j) >> np.uint64(12))
    return m


@kernel
def _race(
    start: Any,
    hashes: Any,
    named: Any,
    weights: Any,
    scale: Any,
    low: Any,
    high: Any,
    first: Any,
    words: Any,
    rows: Any,
    m: Any,
) -> Any:
    """Mark the rows that surely arrive before `low`; list those that arrive in [low, high) or may do so from rows[m] on,
    as far as it has room.

    weights: whole words of 64, the first of them row `first`, and to be multiplied by `scale`. Returns (rows marked, m
    plus the rows listed).
    """
    marked = 0
    lanes = np.empty(64, np.uint32)
    times, after_low, after_high = np.empty(64, np.float32), np.empty(64, np.float32), np.empty(64, np.float32)
    for w in range(words.size):
        upper_halves(start, hashes, named, first + (w << 6), lanes)
        block = weights[w << 6 : (w << 6) + 64]
        for i in range(64):
            times[i] = _rough(lanes[i])
        for i in range(64):
            weight = block[i] * scale
            after_low[i] = times[i] - low * weight
            after_high[i] = times[i] - high * weight
        unsure = above(times, _LATE)
        early = below(after_low, -_DOUBT) & ~unsure
        words[w] = early
        marked += popcount(early)
        inside = (below(after_high, _DOUBT) | unsure) & ~early & above(block, np.float32(0))
        count = popcount(inside)
        if m + count <= rows.size:
            at = m
            while inside:
                rows[at] = first + (w << 6) + lowest(inside)
                inside &= inside - _ONE
                at += 1
        m += count
    return marked, m


@kernel
def _set(words: Any, rows: Any) -> None:
    for row in rows:
        words[row >> 6] |= _ONE << np.uint64(row & 63)


def sample_without_replacement(
    weights: Weights, k: int, *, key: int, identity: Identity | None = None
) -> NDArray[np.uint8]:
    """k rows drawn one after another with p ∝ the weights of those left, as a bitmap: (ceil(n/8),) uint8.

    `weights` is (n,) float32, finite, at least 0 (the caller checks). Each row arrives after an exponential
    time of its own (key, name of the row) at the rate of its weight, and the first k are in, as in
    torch.multinomial; those that arrive at once come by their hashes. A row without weight never arrives: where
    fewer than k have one, all those are set. `identity`: the names of the n rows; None: their numbers.
    """
    n = len(weights)
    identity = identity or RowIdentity(n)
    start = stream(key, 0)
    words = np.zeros(-(-n // 64), np.uint64)
    deviations = 4.0
    while k > 0 and n > 0:
        low, high, room = _guess(start, identity.names, weights, k, deviations)
        rows = np.empty(room, row_dtype(n))
        before, m = _pass(start, identity.names, weights, low, high, words, rows)
        if m <= room and before <= k:
            times = np.empty(m)
            arrivals(start, *identity.names, weights[rows[:m]], rows[:m], times)
            arrived = np.flatnonzero(times < high)  # float32 left a doubt
            if before + len(arrived) >= k or high == math.inf:
                _set(words, _first(times[arrived], rows[arrived], k - before, start, identity))
                break
        deviations *= 4
    return words.astype("<u8", copy=False).view(np.uint8)[: -(-n // 8)]


def first_arrivals(weights: Weights, total: float, k: int, *, key: int, identity: Identity) -> NDArray[Any]:
    """Whose the first k arrivals are, (k,) in any order, where a row arrives again and again: at the rate of its weight.

    `total`: the sum of the weights, above 0. A row's first arrival is that of `sample_without_replacement`.
    """
    n, names = len(weights), identity.names
    start, more = stream(key, 0), stream(key, 1)
    deviations = 6.0
    while True:
        expected = k + deviations * math.sqrt(k) + deviations**2
        high = expected / total
        rows = _listed(start, names, weights, high, min(n, int(expected) + n // 1024) + 64)
        own = weights[rows]
        room = m = int(expected + deviations * math.sqrt(expected)) + 64
        while m >= room:  # a second time, if at all
            room = m + 1
            times, places = np.empty(room), np.empty(room, rows.dtype)
            m = int(arrivals_before(start, more, *names, own, rows, high, times, places))
        if m >= k:
            return _first(times[:m], places[:m], k, start, identity)
        deviations *= 2


def _listed(start: np.uint64, names: Names, weights: Weights, high: float, room: int) -> NDArray[Any]:
    """The rows that may arrive before `high`, those that surely do among them. `room`: a guess of how many."""
    n = len(weights)
    words = np.empty(-(-n // 64), np.uint64)
    while True:
        rows = np.empty(room, row_dtype(n))
        _, m = _pass(start, names, weights, 0.0, high, words, rows)
        if m <= room:
            return rows[:m]
        room = m


def _first(
    times: NDArray[np.float64], places: NDArray[Any], k: int, start: np.uint64, identity: Identity
) -> NDArray[Any]:
    """The `places` of the k earliest of `times`, in any order, or all where there are no more. At equal times by names."""
    if not 0 < k < len(times):
        return places[: max(k, 0)]
    last = np.partition(times, k - 1)[k - 1]
    sure, tied = places[times < last], places[times == last]
    if len(sure) + len(tied) > k:
        tied = identity.ordered(start, tied)
    return np.concatenate([sure, tied[: k - len(sure)]])


def _pass(
    start: np.uint64,
    names: Names,
    weights: Weights,
    low: float,
    high: float,
    words: NDArray[np.uint64],
    rows: NDArray[Any],
) -> tuple[int, int]:
    """`_race` over all rows, and over some that never arrive, which fill up the last word."""
    bounds = _in_float32(low, high)
    before, m = 0, 0
    for first, piece in pieces(weights):
        if len(piece) % 64:
            piece = np.concatenate([piece, np.zeros(-len(piece) % 64, np.float32)])
        own = words[first >> 6 : first + len(piece) >> 6]
        more, m = _race(start, *names, piece, *bounds, first, own, rows, m)
        before += more
    return before, m


def _in_float32(low: float, high: float) -> tuple[np.float32, np.float32, np.float32]:
    """(scale, low, high): what the weights are multiplied by, so that the bounds have no need of float64's exponents."""
    _, exponent = math.frexp(high if high < math.inf else low)
    exponent = max(-126, min(exponent, 126))
    return np.float32(2.0**exponent), np.float32(low * 2.0**-exponent), np.float32(high * 2.0**-exponent)


def _guess(start: np.uint64, names: Names, weights: Weights, k: int, deviations: float) -> tuple[float, float, int]:
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
    arrivals(start, *names, weights[rows], rows, times)
    early, late = max(0, int((share - slack) * size)), min(size - 1, int((share + slack) * size))
    times.partition((early, late))
    low = float(times[early]) if share > slack else 0.0
    high = float(times[late]) if share + slack < 1 else math.inf
    return low, high, min(n, int(4 * slack * n) + n // 1000 + 64)
