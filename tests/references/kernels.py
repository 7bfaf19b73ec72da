"""Twins of the kernels that select, shuffle and draw."""

import math

import numpy as np

GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
WORD = 1 << 64


def mix(x: int) -> int:
    """SplitMix64's finaliser of a 64-bit number."""
    x %= WORD
    x = (x ^ (x >> 30)) * MIX1 % WORD
    x = (x ^ (x >> 27)) * MIX2 % WORD
    return x ^ (x >> 31)


def numbered(start: int, i: int) -> int:
    """The i-th number of SplitMix64's sequence from `start`."""
    return mix(int(start) + i * GOLDEN)


def upper(start: int, row: int) -> int:
    """32 random bits of a row. 64 neighbours share a number of the sequence, with which lowbias32 mixes their places."""
    word = numbered(start, row >> 6)
    x = ((row & 63) * 0x9E3779B9 + word) % 2**32
    x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
    x ^= word >> 32
    x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
    return x ^ (x >> 16)


def lower(start: int, row: int) -> int:
    """64 more random bits of a row, of which callers use the highest ones."""
    return numbered(~start % WORD, row)


def stream(key: int, use: int) -> int:
    """The start of the sequence for one use of `key`."""
    return mix(key + (use + 1) * GOLDEN)


def uniform(start: int, i: int) -> float:
    """The i-th random number in [0, 1) of the sequence from `start`."""
    return (numbered(start, i) >> 11) * 2.0**-53


def pack(kept: np.ndarray) -> np.ndarray:
    """A bitmap (uint8) of the (n,) bool `kept`, the lowest bit first."""
    return np.packbits(kept, bitorder="little")


def rank_window(keys: np.ndarray, lo: int, hi: int, *, salt: int, ties: str) -> np.ndarray:
    """Sort everything that is not NaN by (key, tie) and keep the ranks in [lo, hi)."""
    rows = [row for row in range(len(keys)) if not math.isnan(keys[row])]
    start = mix(salt + 0x5E1EC7)
    tie = {row: (upper(start, row), lower(start, row) >> 32) if ties == "random" else row for row in rows}
    rows.sort(key=lambda row: (keys[row], tie[row]))
    kept = np.zeros(len(keys), bool)
    kept[rows[lo:hi]] = True
    return pack(kept)


def poisson_quantile(mean: float, u: float) -> int:
    """The Poisson quantile at `u` in [0, 1), at most 64."""
    p = end = math.exp(-mean)
    k = 0
    while u >= end and k < 64:
        k += 1
        p *= mean / k
        end += p
    return k


def poisson_counts(key: int, more_key: int, weights: np.ndarray, rate: float) -> list[int]:
    """A Poisson count for each row, by inversion. A mean above 6 is split into parts, whose counts are added."""
    counts = []
    for row, weight in enumerate(weights):
        mean = float(weight) * rate
        count = poisson_quantile(min(mean, 6.0), uniform(key, row))
        j = 0
        while mean > 6:
            mean -= 6
            count += poisson_quantile(min(mean, 6.0), uniform(numbered(more_key, row), j))
            j += 1
        counts.append(count)
    return counts


def drawn_one_by_one(weights: np.ndarray, num_samples: int, *, key: int, block: int = 4096) -> np.ndarray:
    """Draw a block for each sample, by the blocks' sums; then draw rows in each block, as often as it was drawn."""
    weights = weights.astype(np.float64)
    sums = np.add.reduceat(weights, np.arange(0, len(weights), block))
    ends = np.cumsum(sums)
    targets = np.array([uniform(stream(key, 0), i) for i in range(num_samples)]) * ends[-1]
    by_block = np.bincount(np.searchsorted(ends, targets, side="right"), minlength=len(sums))
    counts = np.zeros(len(weights), np.uint32)
    i = 0
    for b, num in enumerate(by_block):
        ends = np.cumsum(weights[b * block : (b + 1) * block])
        for _ in range(num):
            target = uniform(stream(key, 1), i) * ends[-1]
            counts[b * block + np.searchsorted(ends, target, side="right")] += 1
            i += 1
    return counts


def sample_without_replacement(weights: np.ndarray, k: int, *, key: int) -> np.ndarray:
    """Sort all rows with a positive weight by their random arrival time, and keep the first k, as a bitmap."""
    start = stream(key, 0)
    times = {
        row: -math.log(((upper(start, row) << 20 | lower(start, row) >> 44) + 0.5) * 2.0**-52) / float(weight)
        for row, weight in enumerate(weights)
        if weight > 0
    }
    kept = np.zeros(len(weights), bool)
    kept[sorted(times, key=times.__getitem__)[:k]] = True
    return pack(kept)


def shuffle(entries: list[int], *, key: int, mean_bucket: int = 1 << 15) -> list[int]:
    """A random bucket for each entry, then Fisher-Yates inside each bucket."""
    buckets = 1 << min(16, ((max(len(entries), 1) - 1) // mean_bucket).bit_length())
    filled: list[list[int]] = [[] for _ in range(buckets)]
    for i, entry in enumerate(entries):
        word = numbered(stream(key, 0), i >> 2) >> (16 * (i & 3)) & 0xFFFF
        filled[word * buckets >> 16].append(entry)
    out: list[int] = []
    for some in filled:
        first = len(out)
        for i in range(len(some)):
            x = numbered(stream(key, 1), first + i)
            while (x >> 32) * (i + 1) % 2**32 < 2**32 % (i + 1):  # this number would favour some places: take another
                x = numbered(x, 1)
            j = (x >> 32) * (i + 1) >> 32
            some[i], some[j] = some[j], some[i]
        out += some
    return out


def image(at: int, total: int, *, key: int, rounds: int = 8) -> int:
    """Where the keyed permutation of [0, total) takes `at`.

    A Feistel network permutes [0, a·b), and is applied again until the result is below `total`.
    """
    a = max(1, math.isqrt(total))
    b = -(-total // a)

    def number(half: int, round_key: int, span: int) -> int:
        x = (half + round_key) * 0x9E3779B1 % 2**32
        x ^= x >> 16
        x = (x ^ (round_key >> 32)) * 0x85EBCA77 % 2**32
        x ^= x >> 15
        return (x * 0xC2B2AE3D % 2**32) * span >> 32

    while True:
        left, right = divmod(at, b)
        for r in range(0, rounds, 2):
            left = (left + number(right, stream(key, 2 + r), a)) % a
            right = (right + number(left, stream(key, 3 + r), b)) % b
        at = left * b + right
        if at < total:
            return at
