"""One side of a cut through (key, tie), marked in one pass over the keys: the loops behind `select`."""

from typing import Any

import numba
import numpy as np

from adaptive_sampler.kernels.jit import kernel

_ONE = np.uint64(1)
_LAST = np.uint64(1 << 63)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


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


@kernel
def _hash(salt: Any, row: Any) -> Any:
    """SplitMix64 of the row's place in the salt's sequence: for one salt a bijection, so no rows collide."""
    x = np.uint64(salt) + np.uint64(row) * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


@kernel
def hashes(salt: Any, rows: Any, out: Any) -> None:
    for i in range(rows.size):
        out[i] = _hash(salt, rows[i])


@kernel
def sample(keys: Any, out: Any) -> None:
    """One key from each of len(out) equal stretches, at a hashed place so that no period can hide."""
    stretch = keys.size // out.size
    for i in range(out.size):
        shift = ((_hash(0, i) >> np.uint64(32)) * np.uint64(stretch)) >> np.uint64(32)
        out[i] = keys[i * stretch + np.int64(shift)]


@kernel
def split(keys: Any, low: Any, high: Any, above: Any, first: Any, words: Any, rows: Any, values: Any, m: Any) -> Any:
    """Mark the rows whose key is above `high` (or below `low`), list those in [low, high] from rows[m] on.

    keys: whole words of 64, the first of them row `first`. Returns (keys below low, m plus the keys inside);
    what `rows` and `values`, their keys, have no room for is only counted. A NaN is on no side.
    """
    below = 0
    for w in range(words.size):
        block = keys[w << 6 : (w << 6) + 64]
        under = np.uint64(0)
        inside = np.uint64(0)
        over = np.uint64(0)
        for i in range(64):  # no branches and no calls: three vector comparisons and masks
            under |= np.uint64(block[i] < low) << np.uint64(i)
            over |= np.uint64(block[i] > high) << np.uint64(i)
            inside |= np.uint64((block[i] >= low) & (not block[i] > high)) << np.uint64(i)
        words[w] = over if above else under
        below += _popcount(under)
        if m + 2 <= rows.size:
            for _ in range(2):  # two at once, of which those inside stay: how many is not predictable
                place = _lowest(inside | _LAST)
                rows[m] = first + (w << 6) + place
                values[m] = block[place]
                m += np.int64(inside != 0)
                inside &= inside - _ONE
        while inside and m < rows.size:
            place = _lowest(inside)
            rows[m] = first + (w << 6) + place
            values[m] = block[place]
            inside &= inside - _ONE
            m += 1
        m += _popcount(inside)
    return below, m


@kernel
def split_ties(
    keys: Any,
    value: Any,
    salt: Any,
    low: Any,
    width: Any,
    above: Any,
    n: Any,
    first: Any,
    words: Any,
    rows: Any,
    m: Any,
) -> Any:
    """As `split`, by (key, hash) at (value, low .. low + width); what is counted and listed are ties only.

    Where `keys` is empty, all n rows are ties.
    """
    before = 0
    ties = np.empty(64, np.uint64)
    for w in range(words.size):
        start = np.uint64(salt) + np.uint64(first + (w << 6)) * _GOLDEN
        for i in range(64):  # a loop of its own, as LLVM vectorises it only so
            ties[i] = _hash(start, i)
        tied = ~np.uint64(0) if first + (w << 6) + 64 <= n else (_ONE << np.uint64(n & 63)) - _ONE
        side = np.uint64(0)
        if keys.size:
            block = keys[w << 6 : (w << 6) + 64]
            tied = np.uint64(0)
            for i in range(64):
                tied |= np.uint64(block[i] == value) << np.uint64(i)
                side |= np.uint64((block[i] > value) if above else (block[i] < value)) << np.uint64(i)
        early = np.uint64(0)
        near = np.uint64(0)
        for i in range(64):
            early |= np.uint64(ties[i] < low) << np.uint64(i)
            near |= np.uint64(ties[i] - low <= width) << np.uint64(i)
        words[w] = side | (tied & ~(early | near) if above else tied & early)
        before += _popcount(early & tied)
        near &= tied
        while near:
            if m < rows.size:
                rows[m] = first + (w << 6) + _lowest(near)
            near &= near - _ONE
            m += 1
    return before, m


@kernel
def split_rows(keys: Any, value: Any, left: Any, above: Any, words: Any) -> Any:
    """Mark the rows above `value` (or below it) and its ties but (or only) the first `left`; returns what is
    left."""
    for w in range(words.size):
        block = keys[w << 6 : (w << 6) + 64]
        tied = np.uint64(0)
        side = np.uint64(0)
        for i in range(64):
            tied |= np.uint64(block[i] == value) << np.uint64(i)
            side |= np.uint64((block[i] > value) if above else (block[i] < value)) << np.uint64(i)
        late = tied
        while late and left > 0:
            late &= late - _ONE
            left -= 1
        words[w] = side | (late if above else tied & ~late)
    return left


@kernel
def histogram(raw: Any, prefix: Any, counts: Any) -> None:
    """Counts of the upper 16 bits (prefix < 0), or of the lower 16 among ordered keys whose upper ones are
    `prefix`.

    The ordered key is the float32's bits as an integer that sorts like the number: -0.0 is 0.0, NaN comes
    last.
    """
    for i in range(raw.size):
        bits: Any = raw[i]
        bits = 0 if bits == 0x80000000 else bits
        key = bits ^ (0xFFFFFFFF if bits >> 31 else 0x80000000)
        key = 0xFFFFFFFF if bits & 0x7FFFFFFF > 0x7F800000 else key
        if prefix < 0:
            counts[key >> 16] += 1
        elif key >> 16 == prefix:
            counts[key & 0xFFFF] += 1


@kernel
def set_rows(words: Any, rows: Any) -> None:
    for row in rows:
        words[row >> 6] |= _ONE << np.uint64(row & 63)


@kernel
def settle(words: Any, value: Any, above: Any, rows: Any, values: Any) -> Any:
    """Set those of `rows` whose key is above `value` (or below it) and move its ties to the front of
    `rows`."""
    m = 0
    for i in range(rows.size):
        row, key = rows[i], values[i]
        words[row >> 6] |= np.uint64((key > value) if above else (key < value)) << np.uint64(row & 63)
        rows[m] = row
        m += key == value
    return m
