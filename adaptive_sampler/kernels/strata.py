"""Equal-width strata of scores, and so many rows of each stratum at random: those with the smallest hashes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.grouped import rank_windows
from adaptive_sampler.kernels.identity import Identity, upper_halves
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import equal, lowbias32, lowest
from adaptive_sampler.kernels.select import premix
from adaptive_sampler.kernels.split import set_rows
from adaptive_sampler.kernels.splitmix import number

_BLOCK = 64  # rows whose hashes are found at once
_STRETCH = 4096  # rows whose keys are counted while they are in the nearest cache
_DIGIT = 8  # bits of a hash that rows are counted by, at most
_FEW = 2**31  # rows that int32 counts: half the memory, so that a cache holds more of it
_ONE, _31 = np.uint64(1), np.uint64(31)
_IN, _NEAR, _OUT = range(3)  # a key: all of its rows are taken, some, none
_LOWEST, _HIGHEST = np.float32(-np.inf), np.float32(np.inf)


@kernel
def _ranges(scores: Any, bounds: Any, low: Any, high: Any) -> None:
    """The smallest and the largest finite score of each group; 0 and 0 if none is finite. In lanes: 64 ranges, and then theirs."""
    least, most = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for group in range(low.size):
        own = scores[bounds[group] : bounds[group + 1]]
        lanes = min(own.size, _BLOCK)
        least[:lanes], most[:lanes] = _HIGHEST, _LOWEST
        for first in range(0, own.size, _BLOCK):
            some = own[first : first + _BLOCK]
            for i in range(some.size):  # a comparison with NaN is False
                least[i] = some[i] if (some[i] < least[i]) & (some[i] > _LOWEST) else least[i]
                most[i] = some[i] if (some[i] > most[i]) & (some[i] < _HIGHEST) else most[i]
        smallest, largest = least[:lanes].min(), most[:lanes].max()
        low[group], high[group] = (smallest, largest) if smallest <= largest else (0.0, 0.0)


@kernel
def _assign(scores: Any, bounds: Any, low: Any, scale: Any, strata: Any, codes: Any) -> None:
    """codes[i] = group · strata + the stratum of scores[i], or groups · strata where that is NaN. low, scale: of each group."""
    top, none = np.float64(strata - 1), np.int32(low.size * strata)
    for group in range(low.size):
        least, each, first = low[group], scale[group], np.int32(group * strata)
        some, own = scores[bounds[group] : bounds[group + 1]], codes[bounds[group] : bounds[group + 1]]
        for i in range(some.size):
            place = (np.float64(some[i]) - least) * each
            place = place if place > 0.0 else 0.0
            place = place if place < top else top
            own[i] = none if some[i] != some[i] else np.int32(place) + first


@kernel
def _count(keys: Any, start: Any, hashes: Any, named: Any, bits: Any, counts: Any) -> None:
    """Append the first `bits` bits, a uint32, of each row's hash to its code, keys[i]; then counts[keys[i]] += 1.

    start, hashes, named: as `identity.upper_halves` takes them.
    """
    ties, unnamed = np.empty(_BLOCK, np.uint32), hashes.size == 0 and named.size == 0
    left, right = (
        np.uint64(bits) & _31,
        np.uint64(31 - bits) & _31,
    )  # known to be less than 32, so that it shifts lanes of 32 bits
    for begin in range(0, keys.size, _STRETCH):
        some = keys[begin : begin + _STRETCH]
        for first in range(0, some.size, _BLOCK):
            if unnamed:  # as `upper_halves` does it, but asked once
                lowbias32(number(start, (begin + first) >> 6), ties)
            else:
                upper_halves(start, hashes, named, begin + first, ties)
            own = some[first : first + _BLOCK]
            for i in range(own.size):
                digit = np.uint32(np.uint64(ties[i] >> _ONE) >> right)
                own[i] = np.uint32(np.uint64(own[i]) << left) | digit
        for i in range(some.size):
            counts[some[i]] += 1


@kernel
def _pick(keys: Any, states: Any, starts: Any, words: Any, rows: Any) -> None:
    """Mark the rows whose key has the state _IN, and list those whose key has _NEAR: in `rows`, behind those of their key, which
    begin at starts[key]; this moves `starts`. states: (keys,) uint8.
    """
    state = np.empty(_BLOCK, np.uint32)
    for w in range(words.size):
        some = keys[w << 6 : (w << 6) + _BLOCK]
        state[some.size :] = _OUT
        for i in range(some.size):
            state[i] = states[some[i]]
        words[w] = equal(state, np.uint32(_IN))
        near = equal(state, np.uint32(_NEAR))
        while near:
            place = lowest(near)
            rows[starts[some[place]]] = (w << 6) + place
            starts[some[place]] += 1
            near &= near - _ONE


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
    first, NaN in none. `salt`, `identity`: what a row's hash is made of, as in `select.rank_window`.
    """

    def __init__(
        self, scores: NDArray[np.float32], bounds: NDArray[np.int64], strata: int, *, salt: int, identity: Identity
    ) -> None:
        scores, cells = np.ascontiguousarray(scores, np.float32), (len(bounds) - 1) * strata
        low, high = np.empty(len(bounds) - 1), np.empty(len(bounds) - 1)
        _ranges(scores, bounds, low, high)
        scale = np.divide(strata, high - low, out=np.ones_like(low), where=high > low)
        bits = min(max((len(scores) // (cells + 1)).bit_length() - 4, 0), _DIGIT)  # so that counts are fewer than rows
        counts = np.zeros((cells + 1) << bits, np.int32 if len(scores) < _FEW else np.int64)
        self._salt, self._identity = salt, identity
        self._keys = np.empty(len(scores), np.min_scalar_type(len(counts) - 1))
        _assign(scores, bounds, low, scale, strata, self._keys)
        _count(self._keys, premix(salt), *identity.names, np.uint32(bits), counts)
        self._counts = counts.astype(np.int64).reshape(-1, 1 << bits)
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
        words, rows = np.empty(-(-len(self._keys) // _BLOCK), np.uint64), np.empty(bounds[-1], np.int64)
        _pick(self._keys, states.ravel(), starts.ravel(), words, rows)
        set_rows(words, self._first(rows, bounds, left))
        return words.astype("<u8", copy=False).view(np.uint8)[: -(-len(self._keys) // 8)]

    def _first(
        self, rows: NDArray[np.int64], bounds: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Those of `rows` with the smallest hashes, numbers[g] of rows[bounds[g]:bounds[g + 1]]."""
        told: dict[str, Any] = {"salt": self._salt, "ties": "random", "identity": self._identity.part(rows)}
        chosen = rank_windows(np.zeros(len(rows), np.float32), bounds, np.zeros_like(numbers), numbers, **told)
        return rows[np.unpackbits(chosen, count=len(rows), bitorder="little").view(np.bool_)]
