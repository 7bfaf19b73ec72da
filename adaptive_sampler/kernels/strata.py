"""Equal-width strata of scores, and so many rows of each stratum at random: those with the smallest hashes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.grouped import rank_windows
from adaptive_sampler.kernels.identity import Identity, upper_halves
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import equal, lowbias32, lowest
from adaptive_sampler.kernels.parts import at_once, part_bounds
from adaptive_sampler.kernels.select import premix
from adaptive_sampler.kernels.split import set_rows
from adaptive_sampler.kernels.splitmix import number

_BLOCK = 64  # rows whose hashes are found at once
_DIGIT = range(8, 11)  # bits of a hash that rows are counted by, at most: more than 8 only if keys of 16 bits hold them
_FEW = 2**31  # rows that int32 counts: half the memory, so that a cache holds more of it
_ONE, _31, _63 = np.uint64(1), np.uint64(31), np.uint64(63)
_OUT, _IN, _NEAR = range(3)  # a key: none of its rows are taken, all, some
# Of a float32's bits, as an int32: what is not its sign, how far that lies, infinity; and beyond any number, as they sort.
_SIZE, _SIGN, _INFINITE = np.int32(0x7FFFFFFF), np.int32(31), np.int32(0x7F800000)
_LEAST, _MOST = np.int32(-0x80000000), np.int32(0x7FFFFFFF)
_ALL_SEEN = np.empty(0, np.uint64)


@kernel
def _widen(some: Any, hidden: Any, least: Any, most: Any) -> Any:
    """`least` and `most` after these numbers, the finite of them whose bit of `hidden`, a uint64, is not set.

    Numbers are int32 that sort as they do: so lanes compare them without a thought of NaN.
    """
    for i in range(some.size):
        bits = some[i]
        one = np.int32(bits ^ ((bits >> _SIGN) & _SIZE))
        counts = (np.int32(bits & _SIZE) < _INFINITE) & ((hidden >> (np.uint64(i) & _63)) & _ONE == 0)
        least = min(least, one if counts else _MOST)
        most = max(most, one if counts else _LEAST)
    return least, most


@kernel
def _ranges(raw: Any, hidden: Any, bounds: Any, low: Any, high: Any) -> None:
    """The smallest and the largest finite score of each group, as `_widen` has them; _MOST and _LEAST if there is none.

    raw: the scores' bits, int32. hidden: a bit for each row, in words, which says that it is to be left out; empty: none is.
    """
    for group in range(low.size):
        least, most = _MOST, _LEAST
        at, stop = bounds[group], bounds[group + 1]
        if hidden.size == 0:
            least, most = _widen(raw[at:stop], np.uint64(0), least, most)
            at = stop
        while at < stop:
            end = min((at | (_BLOCK - 1)) + 1, stop)
            least, most = _widen(raw[at:end], hidden[at >> 6] >> np.uint64(at & 63), least, most)
            at = end
        low[group], high[group] = least, most


@kernel
def _stratum(score: Any, least: Any, each: Any, first: Any, top: Any, none: Any) -> Any:
    """first + the stratum of a score, or `none` where that is NaN. top: the last stratum, a float64."""
    place = (np.float64(score) - least) * each
    place = place if place > 0.0 else 0.0
    place = place if place < top else top
    return none if score != score else np.int32(place) + first


@kernel
def _assign(
    scores: Any, begin: Any, bounds: Any, low: Any, scale: Any, group: Any, top: Any, none: Any, codes: Any
) -> None:
    """The strata of the rows of the block that begins with row `begin`, which is of this group; `none` beyond the last row."""
    for i in range(_BLOCK):
        row = begin + i
        if row >= scores.size:
            codes[i] = none
            continue
        while bounds[group + 1] <= row:
            group += 1
        codes[i] = _stratum(scores[row], low[group], scale[group], group * np.int64(top + 1.0), top, none)


@kernel
def _count(
    first: Any,
    stop: Any,
    scores: Any,
    hidden: Any,
    bounds: Any,
    low: Any,
    scale: Any,
    strata: Any,
    start: Any,
    hashes: Any,
    named: Any,
    bits: Any,
    keys: Any,
    counts: Any,
) -> None:
    """keys[i] = group · strata + the stratum of scores[i], or groups · strata where that is NaN, or hidden, or i beyond the last
    row; then the first `bits` bits, a uint32, of the row's hash behind it. counts[keys[i]] += 1. Of the blocks from row `first` on
    that begin before row `stop`.

    low, scale: of each group. hidden, bounds: as `_ranges` takes them. start, hashes, named: as `identity.upper_halves` does.
    keys: whole blocks.
    """
    top, none, group = np.float64(strata - 1), np.int32(low.size * strata), np.int64(0)
    codes, ties, unnamed = np.empty(_BLOCK, np.int32), np.zeros(_BLOCK, np.uint32), hashes.size + named.size == 0
    # known to be less than 32, so that they shift lanes of 32 bits
    left, right = np.uint64(bits) & _31, np.uint64(31 - bits) & _31
    for begin in range(first, stop, _BLOCK):  # one behind the other, as counting waits where the lanes' work does not
        while bounds[group + 1] <= begin:
            group += 1
        if begin + _BLOCK <= bounds[group + 1]:  # of one group, as nearly all are: as many as there are lanes
            some, least, each = scores[begin : begin + _BLOCK], low[group], scale[group]
            lowest_code = np.int32(group * strata)
            for i in range(_BLOCK):
                codes[i] = _stratum(some[i], least, each, lowest_code, top, none)
        else:
            _assign(scores, begin, bounds, low, scale, group, top, none, codes)
        if hidden.size and hidden[begin >> 6]:
            for i in range(_BLOCK):
                codes[i] = none if (hidden[begin >> 6] >> np.uint64(i)) & _ONE else codes[i]
        if unnamed:  # as `upper_halves` does it, but asked once
            lowbias32(number(start, begin >> 6), ties)
        else:
            upper_halves(start, hashes, named, begin, ties)
        own = keys[begin : begin + _BLOCK]
        for i in range(_BLOCK):
            digit = np.uint32(np.uint64(ties[i] >> _ONE) >> right)
            own[i] = np.uint32(np.uint64(codes[i]) << left) | digit
        for i in range(_BLOCK):
            counts[own[i]] += 1


@kernel
def _pick(begin: Any, end: Any, keys: Any, states: Any, words: Any, rows: Any) -> None:
    """Mark the rows whose key has the state _IN, and list those whose key has _NEAR: of the words from `begin` until before `end`.

    states: (keys,) uint8. rows: as many as there are to be listed.
    """
    state, m = np.empty(_BLOCK, np.uint8), np.int64(0)
    for w in range(begin, end):
        some = keys[w << 6 : (w << 6) + _BLOCK]
        for i in range(_BLOCK):
            state[i] = states[some[i]]
        words[w] = equal(state, np.uint8(_IN))
        near = equal(state, np.uint8(_NEAR))
        while near:
            rows[m] = (w << 6) + lowest(near)
            near &= near - _ONE
            m += 1


@kernel
def _together(keys: Any, rows: Any, starts: Any, found: Any) -> None:
    """Write each row behind those of its key, which begin at starts[key]; this moves `starts`."""
    for row in rows:
        found[starts[keys[row]]] = row
        starts[keys[row]] += 1


@kernel
def deal_out(order: Any, counts: Any, budgets: Any, given: Any) -> None:
    """What each stratum gives of its group's budget: in this order, its even part of what is left, or all that it has."""
    for group in range(budgets.size):
        left = budgets[group]
        for place in range(order.shape[1]):
            stratum = order[group, place]
            some = min(counts[group, stratum], left // (order.shape[1] - place))
            given[group, stratum] = some
            left -= some


class Strata:
    """The rows of each group by strata of equal width, from which so many are taken at random.

    `scores`: (n,) float32, of one group behind the other; group g has scores[bounds[g]:bounds[g + 1]], one row or more. A score
    s lies in stratum min(⌊(s − low) · (strata / (high − low))⌋, strata − 1), in float64; low and high are the smallest and the
    largest finite score of its group. −inf lies in the first stratum, inf in the last one; scores that are all equal lie in the
    first, NaN in none. `hidden`: rows that count as NaN, packed as `rank_window` packs them; None for none. `salt`, `identity`:
    what a row's hash is made of, as in `select.rank_window`.
    """

    def __init__(
        self,
        scores: NDArray[np.float32],
        bounds: NDArray[np.int64],
        strata: int,
        *,
        salt: int,
        identity: Identity,
        hidden: NDArray[np.uint8] | None = None,
    ) -> None:
        scores, cells = np.ascontiguousarray(scores, np.float32), (len(bounds) - 1) * strata
        unseen = _ALL_SEEN if hidden is None else _words(hidden, len(scores))
        low, high = _found(scores, unseen, bounds)
        scale = np.divide(strata, high - low, out=np.ones_like(low), where=high > low)
        most = max(_DIGIT[0], min(_DIGIT[-1], 16 - cells.bit_length()))
        bits = min(max((len(scores) // (cells + 1)).bit_length() - 4, 0), most)  # so that counts are fewer than rows
        size = (cells + 1) << bits
        self._n, self._salt, self._identity = len(scores), salt, identity
        self._keys = np.empty(-(-len(scores) // _BLOCK) * _BLOCK, np.min_scalar_type(size - 1))
        self._parts = (
            part_bounds(len(scores)) if 8 * size <= len(scores) else [0, len(scores)]
        )  # each counts for itself
        told = scores, unseen, bounds, low, scale, strata, premix(salt), *identity.names, np.uint32(bits)

        def count(_: int, first: int, stop: int) -> NDArray[Any]:
            counts = np.zeros(size, np.int32 if len(scores) < _FEW else np.int64)
            _count(first, stop, *told, self._keys, counts)
            return counts

        self._each = at_once(self._parts, count)
        self._counts = np.sum(self._each, axis=0, dtype=np.int64).reshape(-1, 1 << bits)
        self.counts: NDArray[np.int64] = self._counts[:-1].sum(axis=1).reshape(-1, strata)
        """How many rows each stratum has, (groups, strata)."""

    def some(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The rows with the smallest hashes, numbers[g, k] ≤ counts[g, k] of each stratum: packed, (ceil(n / 8),) uint8."""
        wanted = np.append(numbers.ravel(), 0)[:, None]
        ends = np.cumsum(self._counts, axis=1)
        near = (ends >= wanted) & (ends - self._counts < wanted)  # the first digit of the last row that is wanted
        states = np.where(near, _NEAR, np.where(ends <= wanted, _IN, _OUT)).astype(np.uint8)
        found, left = self._counts[near], (wanted - (ends - self._counts))[near]
        bounds, starts = np.append(0, np.cumsum(found)), np.zeros(self._counts.shape, np.int64)
        starts[near] = bounds[:-1]
        words, listed = self._picked(states.ravel())
        rows = np.empty_like(listed)
        _together(self._keys, listed, starts.ravel(), rows)
        set_rows(words, self._first(rows, bounds, left))
        return words.astype("<u8", copy=False).view(np.uint8)[: -(-self._n // 8)]

    def _picked(self, states: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The words of rows whose key has the state _IN, and the rows whose key has _NEAR. states: of each key."""
        words = np.empty(len(self._keys) // _BLOCK, np.uint64)

        def pick(part: int, first: int, stop: int) -> NDArray[np.int64]:
            rows = np.empty(self._each[part][states == _NEAR].sum(), np.int64)
            _pick(first // _BLOCK, -(-stop // _BLOCK), self._keys, states, words, rows)
            return rows

        return words, np.concatenate(at_once(self._parts, pick))

    def _first(
        self, rows: NDArray[np.int64], bounds: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Those of `rows` with the smallest hashes, numbers[g] of rows[bounds[g]:bounds[g + 1]]."""
        told: dict[str, Any] = {"salt": self._salt, "ties": "random", "identity": self._identity.part(rows)}
        chosen = rank_windows(np.zeros(len(rows), np.float32), bounds, np.zeros_like(numbers), numbers, **told)
        return rows[np.unpackbits(chosen, count=len(rows), bitorder="little").view(np.bool_)]


def _found(
    scores: NDArray[np.float32], hidden: NDArray[np.uint64], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest and the largest finite score of each group, (groups,) float64; 0 and 0 if none is finite."""

    def ranges(_: int, first: int, stop: int) -> NDArray[np.int32]:
        found = np.empty((2, len(bounds) - 1), np.int32)
        _ranges(scores.view(np.int32), hidden, bounds.clip(first, stop), *found)
        return found

    lows, highs = np.swapaxes(at_once(part_bounds(len(scores)), ranges), 0, 1)
    low, high = lows.min(axis=0), highs.max(axis=0)
    none = low > high
    low[none] = high[none] = 0
    least, most = ((bits ^ ((bits >> _SIGN) & _SIZE)).view(np.float32).astype(np.float64) for bits in (low, high))
    return least, most


def _words(packed: NDArray[np.uint8], n: int) -> NDArray[np.uint64]:
    """Packed bits of n rows as whole words."""
    words = np.zeros(-(-n // _BLOCK), "<u8")
    words.view(np.uint8)[: len(packed)] = packed
    return words.astype(np.uint64, copy=False)
