"""Which rows have a rank in [lo, hi): exact, one bit a row, ties broken by a keyed hash of the row or by row order."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels.jit import kernel

Ties = Literal["random", "row"]

_SAMPLE = 1 << 16  # keys looked at to guess where a rank lies; the guess is checked and never changes the result
_NAN = 0xFFFFFFFF  # the ordered key of every NaN: after +inf, which is 0xFF800000
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_WORD = 1 << 64


@kernel
def _hash(salt, row):  # type: ignore[no-untyped-def]
    """SplitMix64 of the row's place in the salt's sequence: for one salt a bijection, so no two rows collide."""
    x = np.uint64(salt) + np.uint64(row) * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


@kernel
def _ordered(bits):  # type: ignore[no-untyped-def]
    """float32 bits as a uint32 that sorts like the number: -0.0 is 0.0, NaN comes last."""
    bits = np.uint32(0) if bits == np.uint32(0x80000000) else bits
    flipped = bits ^ np.uint32(0xFFFFFFFF) if bits >= np.uint32(0x80000000) else bits ^ np.uint32(0x80000000)
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    return np.uint32(_NAN) if magnitude > np.uint32(0x7F800000) else np.uint32(flipped)


@kernel
def _sample(raw, out):  # type: ignore[no-untyped-def]
    """One ordered key from each of len(out) equal stretches, at a hashed place so that no period can hide."""
    stretch = raw.size // out.size
    for i in range(out.size):
        shift = np.int64((_hash(0, i) >> np.uint64(32)) % np.uint64(stretch))
        out[i] = _ordered(raw[i * stretch + shift])


@kernel
def _bracket(raw, low, high, out):  # type: ignore[no-untyped-def]
    """(keys < low, keys in [low, high]); the latter also go to `out` as far as it has room."""
    low = np.uint32(low)
    width = np.uint32(np.uint32(high) - low)
    below = 0
    m = 0
    for start in range(0, raw.size, 32):
        stop = min(start + 32, raw.size)
        inside = 0
        for i in range(start, stop):
            key = _ordered(raw[i])
            below += key < low
            inside += np.uint32(key - low) <= width
        if inside and m + inside <= out.size:
            at = m
            for i in range(start, stop):
                key = _ordered(raw[i])
                if np.uint32(key - low) <= width:
                    out[at] = key
                    at += 1
        m += inside
    return below, m


@kernel
def _histogram(raw, high, counts):  # type: ignore[no-untyped-def]
    """Counts of the upper 16 bits (high < 0), or of the lower 16 among keys whose upper bits are `high`."""
    for i in range(raw.size):
        key = np.int64(_ordered(raw[i]))
        if high < 0:
            counts[key >> 16] += 1
        elif key >> 16 == high:
            counts[key & 0xFFFF] += 1


@kernel
def _hashes(raw, key, n, salt, low, width, out):  # type: ignore[no-untyped-def]
    """Of the rows with this ordered key (all n rows where raw is empty): (hashes < low, hashes in low .. low + width)."""
    below = 0
    m = 0
    key = np.uint32(key)
    for start in range(0, n, 64):
        stop = min(start + 64, n)
        inside = 0
        for i in range(start, stop):
            tied = raw.size == 0 or _ordered(raw[i]) == key
            value = _hash(salt, i)
            below += tied and value < low
            inside += tied and value - low <= width
        if inside and m + inside <= out.size:
            at = m
            for i in range(start, stop):
                value = _hash(salt, i)
                if value - low <= width and (raw.size == 0 or _ordered(raw[i]) == key):
                    out[at] = value
                    at += 1
        m += inside
    return below, m


@kernel
def _tied_row(raw, key, rank):  # type: ignore[no-untyped-def]
    """The row of the rank-th (from 0) row with this ordered key."""
    key = np.uint32(key)
    for i in range(raw.size):
        if _ordered(raw[i]) == key:
            if rank == 0:
                return i
            rank -= 1
    return raw.size


@kernel
def _mark(raw, key_lo, tie_lo, key_hi, tie_hi, hashed, salt, out):  # type: ignore[no-untyped-def]
    """Set the bit of every row with (key_lo, tie_lo) <= (key, tie) < (key_hi, tie_hi); out: words of 64 rows."""
    key_lo, key_hi = np.uint32(key_lo), np.uint32(key_hi)
    tie_lo, tie_hi = np.uint64(tie_lo), np.uint64(tie_hi)
    for w in range(out.size):
        start = w << 6
        stop = min(start + 64, raw.size)
        word = np.uint64(0)
        ties = 0
        for i in range(start, stop):
            key = _ordered(raw[i])
            word |= np.uint64(key_lo <= key and key < key_hi) << np.uint64(i - start)
            ties += (key == key_lo and tie_lo > 0) or (key == key_hi and tie_hi > 0)
        if ties:
            word = np.uint64(0)
            for i in range(start, stop):
                key = _ordered(raw[i])
                tie = _hash(salt, i) if hashed else np.uint64(i)
                after = key > key_lo or (key == key_lo and tie >= tie_lo)
                ahead = key < key_hi or (key == key_hi and tie < tie_hi)
                word |= np.uint64(after and ahead) << np.uint64(i - start)
        out[w] = word


@kernel
def _mark_hashes(n, tie_lo, tie_hi, open_top, salt, out):  # type: ignore[no-untyped-def]
    """As `_mark` where all n keys are equal."""
    tie_lo, tie_hi = np.uint64(tie_lo), np.uint64(tie_hi)
    for w in range(out.size):
        start = w << 6
        word = np.uint64(0)
        for i in range(start, min(start + 64, n)):
            tie = _hash(salt, i)
            word |= np.uint64(tie >= tie_lo and (open_top or tie < tie_hi)) << np.uint64(i - start)
        out[w] = word


def _premix(salt: int) -> np.uint64:
    """The salt's start in SplitMix64's sequence; near salts must not mean near starts."""
    x = (int(salt) + 0x5E1EC7) % _WORD
    x = (x ^ (x >> 30)) * int(_MIX1) % _WORD
    x = (x ^ (x >> 27)) * int(_MIX2) % _WORD
    return np.uint64(x ^ (x >> 31))


def _by_histogram(raw: NDArray[np.uint32], rank: int) -> tuple[int, int]:
    """(ordered key, how many of its ties come first) of the rank-th row: two passes, whatever the keys are."""
    key, before = 0, 0
    for shift, high in ((16, -1), (0, 0)):
        counts = np.zeros(1 << 16, np.int64)
        _histogram(raw, high if shift else key >> 16, counts)
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, rank - before, side="right"))
        before += int(ends[digit] - counts[digit])
        key |= digit << shift
    return key, rank - before


def _kth(raw: NDArray[np.uint32], rank: int) -> tuple[int, int]:
    """As `_by_histogram`, by one pass over the keys where a sample of them tells about where the rank lies."""
    n = len(raw)
    if n < 8 * _SAMPLE:
        return _by_histogram(raw, rank)
    sample = np.empty(_SAMPLE, np.uint32)
    _sample(raw, sample)
    sample.sort()
    share = rank / n
    slack = 4 * math.sqrt(share * (1 - share) / _SAMPLE) + 8 / _SAMPLE
    low = int(sample[int((share - slack) * _SAMPLE)]) if share > slack else 0
    high = int(sample[int((share + slack) * _SAMPLE)]) if share + slack < 1 else _NAN
    room = 0 if low == high else int(4 * slack * n)
    inside = np.empty(room, np.uint32)
    below, m = _bracket(raw, low, high, inside)
    if not below <= rank < below + m or (room and m > room):
        return _by_histogram(raw, rank)
    if not room:
        return low, rank - below
    key, left = _by_histogram_of_ordered(inside[:m], rank - below)
    return key, left


def _by_histogram_of_ordered(ordered: NDArray[np.uint32], rank: int) -> tuple[int, int]:
    key = int(np.partition(ordered, rank)[rank])
    return key, rank - int(np.count_nonzero(ordered < key))


def _kth_hash(raw: NDArray[np.uint32], key: int, n: int, ties: int, rank: int, salt: np.uint64) -> int:
    """The rank-th smallest hash among the `ties` rows with this key; ranks beyond them give 2**64 - 1."""
    width = 8 * math.sqrt(ties) + 64  # in ranks; hashes are uniform, so the rank tells where to look
    while True:
        low = max(0, int((rank - width) / ties * _WORD))
        high = min(_WORD - 1, int((rank + width) / ties * _WORD))
        inside = np.empty(int(4 * width) + 64, np.uint64)
        below, m = _hashes(raw, key, n, salt, np.uint64(low), np.uint64(high - low), inside)
        if below <= rank < below + m <= below + len(inside):
            return int(np.partition(inside[:m], rank - below)[rank - below])
        width *= 4


def _words(n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    words = np.zeros(-(-n // 64), np.uint64)
    return words, words.astype("<u8", copy=False).view(np.uint8)[: -(-n // 8)]


def rank_window(keys: NDArray[np.float32], lo: int, hi: int, *, salt: int, ties: Ties) -> NDArray[np.uint8]:
    """The rows whose ascending rank by (key, tie) is in [lo, hi), as a bitmap: (ceil(n/8),) uint8, little bit order.

    `keys` is (n,) float32. A NaN has no rank and is never selected; -inf and +inf are ordinary, -0.0 equals 0.0.
    ties="random" orders equal keys by a hash of (salt, row), whatever n and the other rows are; ties="row" by row,
    as a stable argsort does. Windows that share a bound partition the rows exactly. Raises InvalidValue for other
    ties and for a window that is none.
    """
    if ties not in ("random", "row"):
        raise InvalidValue(f"ties={ties!r} is neither 'random' nor 'row'. Pass one of them.")
    _check_window(lo, hi)
    raw = np.ascontiguousarray(keys, np.float32).view(np.uint32)
    start = _premix(salt)
    bounds = [_bound(raw, rank, ties, start) for rank in (lo, hi)]
    words, bits = _words(len(raw))
    _mark(raw, *bounds[0], *bounds[1], ties == "random", start, words)
    return bits


def _bound(raw: NDArray[np.uint32], rank: int, ties: Ties, salt: np.uint64) -> tuple[np.uint32, np.uint64]:
    """(ordered key, tie) of the rank-th row; ranks of NaN and beyond give the key of NaN, which is never inside."""
    if rank >= len(raw):
        return np.uint32(_NAN), np.uint64(0)
    if rank == 0:
        return np.uint32(0), np.uint64(0)
    key, ahead = _kth(raw, rank)
    if key == _NAN or ahead == 0:
        return np.uint32(key), np.uint64(0)
    if ties == "row":
        return np.uint32(key), np.uint64(_tied_row(raw, key, ahead))
    count = int(_bracket(raw, key, key, np.empty(0, np.uint32))[1])
    return np.uint32(key), np.uint64(_kth_hash(raw, key, len(raw), count, ahead, salt))


def _check_window(lo: int, hi: int) -> None:
    if not 0 <= lo <= hi:
        raise InvalidValue(f"lo={lo}, hi={hi}: a window needs 0 <= lo <= hi. Pass ranks in ascending order.")


def hash_window(n: int, lo: int, hi: int, *, salt: int) -> NDArray[np.uint8]:
    """As `rank_window` with n equal keys and random ties: hi - lo rows chosen uniformly, (ceil(n/8),) uint8."""
    _check_window(lo, hi)
    start = _premix(salt)
    none = np.empty(0, np.uint32)
    ends = [0 if not 0 < rank < n else _kth_hash(none, 0, n, n, rank, start) for rank in (lo, hi)]
    words, bits = _words(n)
    if lo < min(hi, n):
        _mark_hashes(n, np.uint64(ends[0]), np.uint64(ends[1]), hi >= n, start, words)
    return bits
