"""One side of a cut through (key, tie), marked in one pass over the keys: the loops behind `select`."""

from typing import Any

import numpy as np

from adaptive_sampler.kernels.identity import upper_halves
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import above as is_above
from adaptive_sampler.kernels.llvm import at_least, at_most, below, equal, lowest, popcount
from adaptive_sampler.kernels.splitmix import number

_ONE = np.uint64(1)
_LAST = np.uint64(1 << 63)


@kernel
def sample(keys: Any, out: Any) -> None:
    """One key from each of len(out) equal stretches, at a hashed place so that no period can hide."""
    stretch = keys.size // out.size
    for i in range(out.size):
        shift = ((number(0, i) >> np.uint64(32)) * np.uint64(stretch)) >> np.uint64(32)
        out[i] = keys[i * stretch + np.int64(shift)]


@kernel
def _mark(
    block: Any, w: Any, low: Any, high: Any, above: Any, first: Any, words: Any, rows: Any, values: Any, m: Any
) -> Any:
    """As `split`, of word `w` alone, whose 64 keys are `block`."""
    under, over = below(block, low), is_above(block, high)
    inside = at_least(block, low) & ~over
    words[w] = over if above else under
    if m + 2 <= rows.size:
        for _ in range(2):  # two at once, of which those inside stay: how many is not predictable
            place = lowest(inside | _LAST)
            rows[m] = first + (w << 6) + place
            values[m] = block[place]
            m += np.int64(inside != 0)
            inside &= inside - _ONE
    while inside and m < rows.size:
        place = lowest(inside)
        rows[m] = first + (w << 6) + place
        values[m] = block[place]
        inside &= inside - _ONE
        m += 1
    return popcount(under), m + popcount(inside)


@kernel
def split(keys: Any, low: Any, high: Any, above: Any, first: Any, words: Any, rows: Any, values: Any, m: Any) -> Any:
    """Mark the rows whose key is above `high` (or below `low`), list those in [low, high] from rows[m] on.

    keys: whole words of 64, the first of them row `first`. Returns (keys below low, m plus the keys inside);
    what `rows` and `values`, their keys, have no room for is only counted. A NaN is on no side.
    """
    before = 0
    for w in range(words.size):
        some, m = _mark(keys[w << 6 : (w << 6) + 64], w, low, high, above, first, words, rows, values, m)
        before += some
    return before, m


@kernel
def split_apart(
    keys: Any, low: Any, high: Any, above: Any, first: Any, words: Any, rows: Any, values: Any, m: Any
) -> Any:
    """As `split`, of keys that do not lie side by side: 64 at a time are brought together."""
    before, block = 0, np.empty(64, np.float32)
    for w in range(words.size):
        for i in range(64):
            block[i] = keys[(w << 6) + i]
        some, m = _mark(block, w, low, high, above, first, words, rows, values, m)
        before += some
    return before, m


@kernel
def split_ties(
    keys: Any,
    value: Any,
    start: Any,
    hashes: Any,
    named: Any,
    low: Any,
    high: Any,
    above: Any,
    n: Any,
    first: Any,
    words: Any,
    rows: Any,
    m: Any,
) -> Any:
    """As `split`, by (key, upper half of the hash) at (value, low .. high); what is counted and listed are ties only.

    start, hashes, named: as `identity.upper_halves` takes them. Where `keys` is empty, all n rows are ties.
    """
    before = 0
    ties = np.empty(64, np.uint32)
    for w in range(words.size):
        tied = ~np.uint64(0) if first + (w << 6) + 64 <= n else (_ONE << np.uint64(n & 63)) - _ONE
        under = over = np.uint64(0)
        if keys.size:
            block = keys[w << 6 : (w << 6) + 64]
            tied, under, over = equal(block, value), below(block, value), is_above(block, value)
        if tied:
            upper_halves(start, hashes, named, first + (w << 6), ties)
        early = below(ties, low)
        near = at_most(ties, high) & ~early
        words[w] = over | (tied & ~(early | near)) if above else under | (tied & early)
        before += popcount(early & tied)
        near &= tied
        while near:
            if m < rows.size:
                rows[m] = first + (w << 6) + lowest(near)
            near &= near - _ONE
            m += 1
    return before, m


@kernel
def split_rows(keys: Any, value: Any, left: Any, above: Any, words: Any) -> Any:
    """Mark the rows above `value` (or below it) and its ties but (or only) the first `left`; returns what is
    left."""
    for w in range(words.size):
        block = keys[w << 6 : (w << 6) + 64]
        tied, under, over = equal(block, value), below(block, value), is_above(block, value)
        late = tied
        while late and left > 0:
            late &= late - _ONE
            left -= 1
        words[w] = over | late if above else under | (tied & ~late)
    return left


@kernel
def set_rows(words: Any, rows: Any) -> None:
    for row in rows:
        words[row >> 6] |= _ONE << np.uint64(row & 63)


@kernel
def _any(keys: Any, m: Any, i: Any) -> Any:
    """One of the first m keys at random."""
    return keys[np.int64(number(np.uint64(m), np.uint64(i)) % np.uint64(m))]


@kernel
def _find(keys: Any, rank: Any) -> Any:
    """The key of this rank, NaN if it has none; `keys` is overwritten.

    The middle one of three random keys parts the others, and those of its side are gone through again: so no order of keys is a
    slow one.
    """
    m: Any = 0
    for key in keys:
        keys[m] = key
        m += np.int64(key == key)
    if rank >= m:
        return np.float32(np.nan)
    while True:
        a, b, c = _any(keys, m, 0), _any(keys, m, 1), _any(keys, m, 2)
        pivot = max(min(a, b), min(max(a, b), c))
        below: Any = 0
        tied: Any = 0
        for i in range(m):
            below += np.int64(keys[i] < pivot)
            tied += np.int64(keys[i] == pivot)
        if below <= rank < below + tied:
            return pivot
        under = rank < below
        rank, end, m = rank if under else rank - below - tied, m, 0
        for i in range(end):
            key = keys[i]
            keys[m] = key
            m += np.int64(key < pivot if under else key > pivot)


@kernel
def split_few(keys: Any, rank: Any, above: Any, by_row: Any, words: Any, tied: Any) -> Any:
    """Mark the rows whose key is above that of the `rank` (or below it), and list those that have it in `tied`.

    Returns (left, m): the first `left` of the m tied rows lie below the rank, in an order that is still to be found; or left = 0:
    these are marked too, as they all lie on one side, or `by_row` orders them.
    """
    value, left = _find(keys.copy(), rank), rank
    m: Any = 0
    none = value != value  # fewer rows than `rank` have a key: those are all below it
    for w in range(words.size):
        word = np.uint64(0)
        for i in range(w << 6, min((w + 1) << 6, keys.size)):
            key = keys[i]
            side = (key == key and not above) if none else (key > value if above else key < value)
            word |= np.uint64(side) << np.uint64(i & 63)
            left -= np.int64(key < value)
            tied[m] = i
            m += np.int64(key == value)
        words[w] = word
    if none:
        return 0, 0
    if left and not by_row:
        return left, m
    set_rows(words, tied[left:m] if above else tied[:left])
    return 0, m


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
def hide(keys: Any, hidden: Any, out: Any) -> None:
    """The keys, but NaN where `hidden`, uint8, is not 0. numpy.where takes thrice as long."""
    for i in range(out.size):
        out[i] = np.float32(np.nan) if hidden[i] else keys[i]


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
