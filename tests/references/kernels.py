"""Twins of the kernels that select, shuffle and draw."""

import heapq
import math
from collections.abc import Sequence
from fractions import Fraction

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


def key_hash(key: str) -> int:
    """64 bits of a key: FNV-1a of its UTF-8 bytes, mixed."""
    value = 0xCBF29CE484222325
    for byte in key.encode():
        value = (value ^ byte) * 0x100000001B3 % WORD
    value = (value ^ (value >> 32)) * 0xD6E8FEB86659FD93 % WORD
    return value ^ (value >> 32)


def row_hash(start: int, row: int) -> int:
    """64 random bits of a row without a key."""
    return upper(start, row) << 32 | lower(start, row) >> 32


def seeded(start: int, name: int | str) -> int:
    """64 random bits of a row by its name: its number, or its key."""
    return row_hash(start, name) if isinstance(name, int) else numbered(start, key_hash(name))


def tie(start: int, name: int | str) -> tuple[int, int | bytes]:
    """What rows are sorted by that are equal in all else: 64 random bits, then the name itself."""
    return seeded(start, name), name if isinstance(name, int) else name.encode()


def rank_at(scores: Sequence[float], sizes: Sequence[int], unit: int, order: Sequence[int]) -> int:
    """How many rows of the ascending ranking begin before `unit`, all if there are no more; `order`: rows as ties are broken."""
    ranked = sorted((row for row in order if not math.isnan(scores[row])), key=lambda row: scores[row])
    begins = [sum(sizes[row] for row in ranked[:rank]) for rank in range(len(ranked))]
    if unit >= sum(sizes[row] for row in ranked):
        return len(ranked)
    return sum(begin < unit for begin in begins)


def exact_total(values: Sequence[float]) -> Fraction:
    """The sum of those that are finite."""
    return sum((Fraction(float(value)) for value in values if math.isfinite(value)), Fraction(0))


def stream(key: int, use: int) -> int:
    """The start of the sequence for one use of `key`."""
    return mix(key + (use + 1) * GOLDEN)


def uniform(start: int, i: int) -> float:
    """The i-th random number in [0, 1) of the sequence from `start`."""
    return (numbered(start, i) >> 11) * 2.0**-53


def pack(kept: np.ndarray) -> np.ndarray:
    """A bitmap (uint8) of the (n,) bool `kept`, the lowest bit first."""
    return np.packbits(kept, bitorder="little")


def rank_window(
    keys: np.ndarray, lo: int, hi: int, *, salt: int, ties: str, names: Sequence[int] | Sequence[str] | None = None
) -> np.ndarray:
    """Sort everything that is not NaN by (key, tie) and keep the ranks in [lo, hi). `names`: of the rows, or their numbers."""
    names = names or range(len(keys))
    rows = [row for row in range(len(keys)) if not math.isnan(keys[row])]
    start = mix(salt + 0x5E1EC7)
    rows.sort(key=lambda row: (keys[row], tie(start, names[row]) if ties == "random" else row))
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


def poisson_counts(
    start: int, more: int, weights: np.ndarray, rate: float, names: Sequence[int] | Sequence[str] | None = None
) -> list[int]:
    """A Poisson count for each row, by inversion. A mean above 6 is split into parts, whose counts are added."""
    counts = []
    for name, weight in zip(names or range(len(weights)), weights, strict=True):
        mean = float(weight) * rate
        count = poisson_quantile(min(mean, 6.0), (seeded(start, name) >> 11) * 2.0**-53)
        j = 0
        while mean > 6:
            mean -= 6
            count += poisson_quantile(min(mean, 6.0), uniform(numbered(more, number_of(name)), j))
            j += 1
        counts.append(count)
    return counts


def number_of(name: int | str) -> int:
    """A name as a number: that of the row, or the hash of the key."""
    return name if isinstance(name, int) else key_hash(name)


def wait(number: int) -> float:
    """How long one waits for an arrival at rate 1: exponential, of the upper 52 bits of a number."""
    return -math.log(((number >> 12) + 0.5) * 2.0**-52)


def first_arrivals(
    weights: np.ndarray, k: int, *, key: int, names: Sequence[int] | Sequence[str] | None = None
) -> list[int]:
    """Whose the first k arrivals are, in their order: each row arrives again and again, at the rate of its weight."""
    names = names or range(len(weights))
    start, more = stream(key, 0), stream(key, 1)
    waited = [wait(seeded(start, name)) for name in names]
    seen = [0] * len(names)
    queue = [
        (waited[row] / float(weights[row]), tie(start, names[row]), row)
        for row in range(len(names))
        if weights[row] > 0
    ]
    heapq.heapify(queue)
    found = []
    for _ in range(k):
        _, name, row = queue[0]
        found.append(row)
        seen[row] += 1
        waited[row] += wait(numbered(numbered(more, number_of(names[row])), seen[row]))
        heapq.heapreplace(queue, (waited[row] / float(weights[row]), name, row))
    return found


def multinomial_counts(
    weights: np.ndarray, num_samples: int, *, key: int, names: Sequence[int] | Sequence[str] | None = None
) -> list[int]:
    """Independent draws: arrivals until a time at which most have come are counted, those after it are the first ones."""
    counts, left = [0] * len(weights), num_samples
    attempt = 2
    while num_samples >= max(len(weights) // 8, 1024):
        rate = (num_samples - 5 * math.sqrt(num_samples)) / float(exact_total(weights.tolist()))
        counts = poisson_counts(stream(key, attempt), stream(key, attempt + 1), weights, rate, names)
        left = num_samples - sum(counts)
        if left >= 0:
            break
        attempt += 2
    for row in first_arrivals(weights, left, key=key, names=names):
        counts[row] += 1
    return counts


def sample_without_replacement(
    weights: np.ndarray, k: int, *, key: int, names: Sequence[int] | Sequence[str] | None = None
) -> np.ndarray:
    """Sort all rows with a positive weight by their first arrival, and keep the first k, as a bitmap."""
    names, start = names or range(len(weights)), stream(key, 0)
    times = {
        row: (wait(seeded(start, names[row])) / float(weight), tie(start, names[row]))
        for row, weight in enumerate(weights)
        if weight > 0
    }
    kept = np.zeros(len(weights), bool)
    kept[sorted(times, key=times.__getitem__)[:k]] = True
    return pack(kept)


def mean_ranks(values: np.ndarray) -> list[float]:
    """For each value, how many are below it, and half of those equal to it, itself among them, and one half."""
    return [float((values < x).sum() + ((values == x).sum() + 1) / 2) for x in values]


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


def mixed_rows(rows: list[list[int]], lanes: list[int]) -> list[int]:
    """A round of xxHash32 for each word of each row, in the lane of its place."""
    for row in rows:
        for i, word in enumerate(row):
            x = (lanes[i] + word * 0x85EBCA77) % 2**32
            lanes[i] = ((x << 13 | x >> 19) * 0x9E3779B1) % 2**32
    return lanes
