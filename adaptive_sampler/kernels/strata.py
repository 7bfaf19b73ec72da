"""Equal-width strata of scores, and so many rows of each stratum at random: those with the smallest hashes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.identity import Identity, upper_halves
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import equal, lowest
from adaptive_sampler.kernels.select import premix
from adaptive_sampler.kernels.split import set_rows

_BLOCK = 64  # rows whose hashes are found at once
_DIGIT = 8  # bits of a hash that rows are counted by, at most
_ONE = np.uint64(1)
_IN, _NEAR, _OUT = range(3)  # a key: all of its rows are taken, some, none


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
    ties, shift = np.empty(_BLOCK, np.uint32), np.uint32(32) - bits
    for first in range(0, keys.size, _BLOCK):
        upper_halves(start, hashes, named, first, ties)
        own = keys[first : first + _BLOCK]
        for i in range(own.size):
            own[i] = np.uint32(own[i]) << bits | np.uint32(np.uint64(ties[i]) >> np.uint64(shift))
        for i in range(own.size):
            counts[own[i]] += 1


@kernel
def _pick(keys: Any, states: Any, words: Any, rows: Any) -> None:
    """Mark the rows whose key has the state _IN, and list those whose key has _NEAR in `rows`. states: (keys,) uint8."""
    found, state = 0, np.empty(_BLOCK, np.uint32)
    for w in range(words.size):
        some = keys[w << 6 : (w << 6) + _BLOCK]
        state[some.size :] = _OUT
        for i in range(some.size):
            state[i] = states[some[i]]
        words[w] = equal(state, np.uint32(_IN))
        near = equal(state, np.uint32(_NEAR))
        while near:
            rows[found] = (w << 6) + lowest(near)
            near &= near - _ONE
            found += 1


def _ranges(scores: NDArray[np.float32], bounds: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The smallest and the largest finite score of each group, float64; (0, 0) if none is finite."""
    low, high = _ends(scores, bounds)
    if not (np.isfinite(low) & np.isfinite(high)).all():
        low, high = _ends(np.where(np.isfinite(scores), scores, np.float32(np.nan)), bounds)
    none = np.isnan(low)
    return np.where(none, 0.0, low), np.where(none, 0.0, high)


def _ends(scores: NDArray[np.float32], bounds: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The smallest and the largest score of each group that is not NaN, float64."""
    if len(bounds) == 2 and not np.isnan(low := scores.min()):  # twice as fast where nothing is NaN
        return np.array([low], np.float64), np.array([scores.max()], np.float64)
    low, high = (end.reduceat(scores, bounds[:-1]).astype(np.float64) for end in (np.fmin, np.fmax))
    return low, high


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
        low, high = _ranges(scores, bounds)
        scale = np.divide(strata, high - low, out=np.ones_like(low), where=high > low)
        bits = min(max((len(scores) // (cells + 1)).bit_length() - 4, 0), _DIGIT)  # so that counts are fewer than rows
        counts = np.zeros((cells + 1) << bits, np.int64)
        self._start, self._identity = premix(salt), identity
        self._keys = np.empty(len(scores), np.min_scalar_type(len(counts) - 1))
        _assign(scores, bounds, low, scale, strata, self._keys)
        _count(self._keys, self._start, *identity.names, np.uint32(bits), counts)
        self._counts = counts.reshape(-1, 1 << bits)
        self.counts: NDArray[np.int64] = self._counts[:-1].sum(axis=1).reshape(-1, strata)
        """How many rows each stratum has, (groups, strata)."""

    def some(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The rows with the smallest hashes, numbers[g, k] ≤ counts[g, k] of each stratum: packed, (ceil(n / 8),) uint8."""
        wanted = np.append(numbers.ravel(), 0)[:, None]
        ends = np.cumsum(self._counts, axis=1)
        near = (ends >= wanted) & (ends - self._counts < wanted)  # the first digit of the last row that is wanted
        states = np.where(near, _NEAR, np.where(ends <= wanted, _IN, _OUT)).astype(np.uint8)
        found, left = self._counts[near], (wanted - (ends - self._counts))[near]
        words, rows = np.empty(-(-len(self._keys) // _BLOCK), np.uint64), np.empty(found.sum(), np.int64)
        _pick(self._keys, states.ravel(), words, rows)
        rows = self._identity.ordered(self._start, rows)
        rows = rows[np.argsort(self._keys[rows], kind="stable")]
        place = np.arange(len(rows)) - np.repeat(np.cumsum(found) - found, found)
        set_rows(words, rows[place < np.repeat(left, found)])
        return words.astype("<u8", copy=False).view(np.uint8)[: -(-len(self._keys) // 8)]
