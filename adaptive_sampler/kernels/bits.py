"""Sets of rows as packed bitmaps: count, list, test, and find the k-th kept row or a row's rank in O(1)."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel

# A block is 512 rows: one cache line of bitmap. The index holds one int64 a block and one hint per 512 kept rows.
_BLOCK_WORDS = 8
_BLOCK_SHIFT = 9
_WORD_SHIFT = 6
_ONE = np.uint64(1)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)

Bits = NDArray[np.uint8]


@numba.extending.intrinsic
def _popcount(typing_context: Any, word: Any) -> Any:
    """Set bits of a uint64 as one machine instruction, which no Python spelling promises."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return numba.types.uint64(numba.types.uint64), generate


@numba.extending.intrinsic
def _lowest(typing_context: Any, word: Any) -> Any:
    """Position of the lowest set bit of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], numba.core.cgutils.true_bit)

    return numba.types.uint64(numba.types.uint64), generate


def words_of(bits: Bits) -> tuple[NDArray[np.uint64], np.uint64]:
    """The bitmap as whole 64-bit words (a view where it is aligned) and the zero-padded rest as one more word."""
    whole = len(bits) // 8 * 8
    head = np.ascontiguousarray(bits[:whole])
    if head.ctypes.data % 8:  # a kernel's uint64 loads are aligned
        head = head.copy()
    tail = int.from_bytes(bits[whole:].tobytes(), "little")
    return head.view("<u8"), np.uint64(tail)


@kernel
def _word(words, tail, i):  # type: ignore[no-untyped-def]
    if i < words.size:
        return words[i]
    return tail if i == words.size else np.uint64(0)


@kernel
def _count(words, tail):  # type: ignore[no-untyped-def]
    total = _popcount(tail)
    for i in range(words.size):
        total += _popcount(words[i])
    return np.int64(total)


@kernel
def _rows(words, tail, first, out):  # type: ignore[no-untyped-def]
    """Set bits in ascending order into `out`, which has room for exactly all of them; bit 0 is row `first`."""
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
            out[m] = base + np.int64(_lowest(word))
            word &= word - _ONE
            m += 1


@kernel
def _test(bits, rows, out):  # type: ignore[no-untyped-def]
    for i in range(rows.size):
        out[i] = (bits[rows[i] >> 3] >> (rows[i] & 7)) & 1


@kernel
def _index(words, tail, before, hints):  # type: ignore[no-untyped-def]
    """before[b]: kept rows ahead of block b.  hints[h]: the block that holds kept row 512·h."""
    total = 0
    h = 0
    for b in range(before.size - 1):
        before[b] = total
        for i in range(b * _BLOCK_WORDS, (b + 1) * _BLOCK_WORDS):
            total += np.int64(_popcount(_word(words, tail, i)))
        while h < hints.size and h << _BLOCK_SHIFT < total:
            hints[h] = b
            h += 1
    before[before.size - 1] = total
    while h < hints.size:
        hints[h] = max(before.size - 2, 0)
        h += 1


@kernel
def _select_in_word(word, k):  # type: ignore[no-untyped-def]
    """Position of the k-th set bit (from 0): halve the word by population count, which never mispredicts much."""
    at = np.uint64(0)
    k = np.uint64(k)
    for half in (32, 16, 8, 4, 2, 1):
        width = np.uint64(half)
        below = _popcount(word & ((_ONE << width) - _ONE))
        if k >= below:
            k -= below
            word >>= width
            at += width
    return np.int64(at)


@kernel
def _select(words, tail, before, hints, ranks, out):  # type: ignore[no-untyped-def]
    for i in range(ranks.size):
        k = np.int64(ranks[i])
        h = k >> _BLOCK_SHIFT
        low = np.int64(hints[h])
        high = np.int64(hints[h + 1])
        while low < high:  # the last block with before <= k
            middle = (low + high + 1) >> 1
            if before[middle] <= k:
                low = middle
            else:
                high = middle - 1
        left = k - before[low]
        at = low * _BLOCK_WORDS
        ones = np.int64(_popcount(_word(words, tail, at)))
        while ones <= left:
            left -= ones
            at += 1
            ones = np.int64(_popcount(_word(words, tail, at)))
        out[i] = (at << _WORD_SHIFT) + _select_in_word(_word(words, tail, at), left)


@kernel
def _rank(words, tail, before, rows, out):  # type: ignore[no-untyped-def]
    for i in range(rows.size):
        row = np.int64(rows[i])
        last = row >> _WORD_SHIFT
        total = before[row >> _BLOCK_SHIFT]
        for w in range((row >> _BLOCK_SHIFT) * _BLOCK_WORDS, last):
            total += np.int64(_popcount(_word(words, tail, w)))
        mask = (_ONE << np.uint64(row & 63)) - _ONE
        out[i] = total + np.int64(_popcount(_word(words, tail, last) & mask))


def count(bits: Bits) -> int:
    """How many rows are set."""
    return int(_count(*words_of(bits)))


def row_dtype(n: int) -> type[np.int32] | type[np.int64]:
    """The narrowest type of this package's row arrays that holds rows of [0, n)."""
    return np.int32 if n < 2**31 else np.int64


def rows(bits: Bits, n: int) -> NDArray[np.int64]:
    """The rows of [0, n) that are set, ascending, (count,) int64."""
    out = np.empty(count(bits), np.int64)
    _rows(*words_of(bits), 0, out)
    return out


def narrow_rows(bits: Bits, n: int, *, first: int = 0) -> NDArray[Any]:
    """As `rows`, in `row_dtype(n)`; `bits` may be a slice whose bit 0 is row `first`."""
    out = np.empty(count(bits), row_dtype(n))
    _rows(*words_of(bits), first, out)
    return out


def test(bits: Bits, rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of `rows` (integers, every one a row of the bitmap) are set, (len(rows),) bool."""
    out = np.empty(len(rows), np.bool_)
    _test(bits, rows, out)
    return out


class Index:
    """Rank and select on a bitmap of n rows, in about 0.03 bytes a row beside the bitmap, which it keeps as a view."""

    def __init__(self, bits: Bits, n: int) -> None:
        self.n = n
        self._words, self._tail = words_of(bits)
        self.count = int(_count(self._words, self._tail))
        blocks = -(-n >> _BLOCK_SHIFT)
        self._before = np.empty(blocks + 1, np.int64)
        self._hints = np.empty((self.count >> _BLOCK_SHIFT) + 2, row_dtype(blocks))
        _index(self._words, self._tail, self._before, self._hints)

    def select(self, ranks: NDArray[Any]) -> NDArray[Any]:
        """The kept rows of these ranks, each in [0, count), in `row_dtype(n)`: rows()[ranks]."""
        out = np.empty(len(ranks), row_dtype(self.n))
        _select(self._words, self._tail, self._before, self._hints, ranks, out)
        return out

    def rank(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """How many kept rows lie before each of `rows`, each in [0, n): the position of a kept row in rows()."""
        out = np.empty(len(rows), np.int64)
        _rank(self._words, self._tail, self._before, rows, out)
        return out

    @property
    def nbytes(self) -> int:
        """Bytes held beside the bitmap."""
        return self._before.nbytes + self._hints.nbytes
