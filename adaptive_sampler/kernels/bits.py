"""Sets of rows as packed bitmaps: count, list, test, and find the k-th kept row or a row's rank in O(1)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import lowest, popcount

# A block is two words, so that a rank is a count and one or two words; a hint says which block holds every 256th kept
# row, so that a select has few blocks to choose from.
_BLOCK_SHIFT = 7
_HINT_SHIFT = 8
_WORD_SHIFT = 6
_CHUNK = 256
_FEW = 1024  # bytes that Python counts in less time than a kernel is called, and a kernel lists in less than words are made
_MANY = 24  # set bits of a word, above which it is not gone through bit by bit
_NO_BITS = np.empty(0, np.uint8)
_EVERY = np.frombuffer(b"", np.uint8)  # in place of a plan's bits, where it keeps all: read-only, as those are
_ONE = np.uint64(1)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
_BYTES = np.uint64(0x0101010101010101)
_SIGNS = np.uint64(0x8080808080808080)
# _IN_BYTE[byte, k]: the position of the k-th set bit of a byte
_IN_BYTE = np.array(
    [[*(j for j in range(8) if byte >> j & 1), *[0] * (8 - byte.bit_count())] for byte in range(256)],
    np.uint8,
)

Bits = NDArray[np.uint8]


def words_of(bits: Bits) -> tuple[NDArray[np.uint64], np.uint64]:
    """The bitmap as whole 64-bit words, a view where it is aligned, and the rest as one more word."""
    whole = len(bits) // 8 * 8
    head = np.ascontiguousarray(bits[:whole]).view("<u8")
    if not head.flags.aligned:  # a kernel's uint64 loads are
        head = head.copy()
    tail = int.from_bytes(bits[whole:].tobytes(), "little")
    return head, np.uint64(tail)


@kernel
def _word(words: Any, tail: Any, i: Any) -> Any:
    if i < words.size:
        return words[i]
    return tail if i == words.size else np.uint64(0)


@kernel
def _count(words: Any, tail: Any) -> Any:
    total = popcount(tail)
    for i in range(words.size):
        total += popcount(words[i])
    return total


@kernel
def _rows(words: Any, tail: Any, first: Any, out: Any) -> Any:
    """Set bits in ascending order into `out`, which has room for exactly all; bit 0 is row `first`."""
    m = 0
    for i in range(words.size + 1):
        word = _word(words, tail, i)
        base = first + (i << _WORD_SHIFT)
        if word == _FULL:
            for j in range(64):
                out[m + j] = base + j
            m += 64
            continue
        while word:
            out[m] = base + lowest(word)
            word &= word - _ONE
            m += 1


@kernel
def _rows_of_bytes(bits: Any, first: Any, out: Any) -> Any:
    """As `_rows`, of a bitmap that is short enough to be read byte by byte."""
    m = 0
    for i in range(bits.size):
        byte = np.uint64(bits[i])
        while byte:
            out[m] = first + (i << 3) + lowest(byte)
            byte &= byte - _ONE
            m += 1


@kernel
def _test(bits: Any, rows: Any, out: Any) -> Any:
    for i in range(rows.size):
        out[i] = (bits[rows[i] >> 3] >> (rows[i] & 7)) & 1


@kernel
def _first_outside(bits: Any, n: Any, rows: Any) -> Any:
    for i in range(rows.size):
        if rows[i] < 0 or rows[i] >= n:
            return i
    for i in range(rows.size if bits.size else 0):
        if not (bits[rows[i] >> 3] >> (rows[i] & 7)) & 1:
            return i
    return -1


@kernel
def _mark(bits: Any, n: Any, rows: Any) -> Any:
    for i in range(rows.size):
        row = rows[i]
        if row < 0 or row >= n or bits[row >> 3] >> (row & 7) & 1:
            return i
        bits[row >> 3] |= np.uint8(1 << (row & 7))
    return -1


@kernel
def _index(words: Any, tail: Any, before: Any, hints: Any) -> None:
    """before[b]: kept rows ahead of block b.  hints[h]: the block that holds kept row 256·h, or the last block."""
    total = np.int64(0)
    h = 0
    for b in range(before.size - 1):
        before[b] = total
        total += popcount(_word(words, tail, 2 * b)) + popcount(_word(words, tail, 2 * b + 1))
        while h << _HINT_SHIFT < total:
            hints[h] = b
            h += 1
    before[before.size - 1] = total
    hints[h:] = max(before.size - 2, 0)


@kernel
def _select_in_word(word: Any, k: Any) -> Any:
    """Position of the k-th set bit (from 0): the byte by sums inside the word, the bit by table."""
    k = np.uint64(k)
    sums = word - ((word >> _ONE) & np.uint64(0x5555555555555555))
    sums = (sums & np.uint64(0x3333333333333333)) + ((sums >> np.uint64(2)) & np.uint64(0x3333333333333333))
    sums = ((sums + (sums >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)) * _BYTES  # byte j: bits in bytes 0 … j
    place = np.uint64(8) * np.uint64(popcount((((k * _BYTES) | _SIGNS) - sums) & _SIGNS))
    k -= ((sums << np.uint64(8)) >> place) & np.uint64(0xFF)
    byte = (word >> place) & np.uint64(0xFF)
    return np.int64(place) + np.int64(_IN_BYTE[byte, k])


@kernel
def _select(words: Any, tail: Any, before: Any, hints: Any, ranks: Any, out: Any) -> None:
    """A chunk in three steps, so that each step's cache misses overlap; no branches where the way depends on
    the bits, as they would be mispredicted every other time."""
    low = np.empty(_CHUNK, np.int64)
    high = np.empty(_CHUNK, np.int64)
    for first in range(0, ranks.size, _CHUNK):
        some = ranks[first : first + _CHUNK]
        for i in range(some.size):
            h = np.uint64(some[i]) >> np.uint64(_HINT_SHIFT)
            low[i] = hints[h]
            high[i] = hints[h + _ONE]
        for i in range(some.size):
            k = np.int64(some[i])
            block, last = low[i], high[i]
            while last - block > 7:  # only where fewer than one row in three is kept
                middle = (block + last) >> 1
                if np.int64(before[middle]) <= k:
                    block = middle
                else:
                    last = middle
            for step in (4, 2, 1):
                middle = min(block + step, last)
                block = middle if np.int64(before[middle]) <= k else block
            low[i] = block
            high[i] = k - np.int64(before[block])
        for i in range(some.size):
            block, left = low[i], high[i]
            one, other = _word(words, tail, 2 * block), _word(words, tail, 2 * block + 1)
            ones = popcount(one)
            second = np.int64(ones <= left)
            word = one ^ ((one ^ other) & np.uint64(-second))
            left -= ones & -second
            out[first + i] = (block << _BLOCK_SHIFT) + (second << _WORD_SHIFT) + _select_in_word(word, left)


@kernel
def _rank(words: Any, tail: Any, before: Any, rows: Any, out: Any) -> None:
    for i in range(rows.size):
        row = np.int64(rows[i])
        at = row >> _WORD_SHIFT
        mask = (_ONE << np.uint64(row & 63)) - _ONE
        whole = popcount(_word(words, tail, at - 1)) if at & 1 else 0
        inside = popcount(_word(words, tail, at) & mask)
        out[i] = np.int64(before[row >> _BLOCK_SHIFT]) + whole + inside


@kernel
def _part(own: Any, own_tail: Any, some: Any, some_tail: Any, values: Any, out: Any) -> None:
    """Values, one for each bit of `own`, that `some` has too, into `out`, which has room for one more. No `own`: of all rows.

    Of a word of which most are taken each value is written, and the next one over it if it is not: no branch to mispredict. Indices
    are uint64, as an index from the end is looked for in others.
    """
    m, p, every = np.uint64(0), np.uint64(0), own.size == 0 and own_tail == 0
    for i in range(some.size + 1):
        mine, word = _FULL if every else _word(own, own_tail, i), _word(some, some_tail, i)
        if mine == _FULL and np.int64(p) + 64 <= values.size and popcount(word) > _MANY:
            for j in range(64):
                out[m] = values[p + np.uint64(j)]
                m += (word >> np.uint64(j)) & _ONE
        else:
            while word:
                out[m] = values[p + np.uint64(popcount(mine & ((word & -word) - _ONE)))]
                m += _ONE
                word &= word - _ONE
        p += np.uint64(popcount(mine))


def count(bits: Bits) -> int:
    """How many rows are set."""
    if len(bits) <= _FEW:
        return int.from_bytes(bits.tobytes(), "little").bit_count()
    return int(_count(*words_of(bits)))


def row_dtype(n: int) -> type[np.int32] | type[np.int64]:
    """The narrowest type of this package's row arrays that holds rows of [0, n)."""
    return np.int32 if n < 2**31 else np.int64


def rows(bits: Bits, n: int) -> NDArray[np.int64]:
    """The rows of [0, n) that are set, ascending, (count,) int64."""
    out = np.empty(count(bits), np.int64)
    _rows(*words_of(bits), 0, out)
    return out


def narrow_rows(bits: Bits, n: int, *, first: int = 0, number: int | None = None) -> NDArray[Any]:
    """As `rows`, in `row_dtype(n)`; `bits` may be a slice whose bit 0 is row `first`. `number`: how many are set, if known."""
    out = np.empty(count(bits) if number is None else number, row_dtype(n))
    if len(bits) <= _FEW:
        _rows_of_bytes(np.ascontiguousarray(bits), first, out)
    else:
        _rows(*words_of(bits), first, out)
    return out


def part(values: NDArray[Any], own: Bits | None, some: Bits) -> NDArray[Any]:
    """Of `values`, one for each row of `own` (None: of all rows), those of the rows `some`, which are all among them."""
    plain = np.ascontiguousarray(values).view(f"u{values.itemsize}")  # the kernel is compiled for fewer types
    out = np.empty(count(some) + 1, plain.dtype)
    if len(plain):
        _part(*words_of(_NO_BITS if own is None else own), *words_of(some), plain, out)
    return out[:-1].view(values.dtype)


def test(bits: Bits, rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of `rows` (integers, every one a row of the bitmap) are set, (len(rows),) bool."""
    out = np.empty(len(rows), np.bool_)
    _test(bits, rows, out)
    return out


def first_outside(bits: Bits | None, n: int, rows: NDArray[np.int64]) -> int:
    """The position of the first of `rows` that is outside 0 … n − 1; else of the first that is not set; else −1.

    `bits`: read-only, of n rows; None: all are set.
    """
    return int(_first_outside(_EVERY if bits is None else bits, n, rows))


def mark(bits: Bits, n: int, rows: NDArray[np.int64]) -> int:
    """Set `rows` in order, up to the first that is outside 0 … n − 1 or already set -> its position; −1: all are set."""
    return int(_mark(bits, n, rows))


class Index:
    """Rank and select on a bitmap of n rows, kept as a view: 0.05 bytes a row (0.1 from 2**32 rows on)."""

    def __init__(self, bits: Bits, n: int) -> None:
        self.n = n
        self._words, self._tail = words_of(bits)
        self.count = int(_count(self._words, self._tail))
        blocks = -(-n >> _BLOCK_SHIFT)
        narrow = np.uint32 if n < 2**32 else np.uint64
        self._before = np.empty(blocks + 1, narrow)
        self._hints = np.empty((self.count >> _HINT_SHIFT) + 2, narrow)
        _index(self._words, self._tail, self._before, self._hints)

    def select(self, ranks: NDArray[Any]) -> NDArray[Any]:
        """The kept rows of these ranks, each in [0, count), in `row_dtype(n)`: rows()[ranks]."""
        out = np.empty(len(ranks), row_dtype(self.n))
        _select(self._words, self._tail, self._before, self._hints, ranks, out)
        return out

    def rank(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """How many kept rows lie before each of `rows`, each in [0, n): a kept row's place in rows()."""
        out = np.empty(len(rows), np.int64)
        _rank(self._words, self._tail, self._before, rows, out)
        return out

    @property
    def nbytes(self) -> int:
        """Bytes held beside the bitmap."""
        return self._before.nbytes + self._hints.nbytes
