"""Independent weighted draws with replacement, as counts; the entry to weighted draws of both kinds."""

import math
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.identity import NO_PLACES, Identity, Names, RowIdentity, hash_places
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.race import first_arrivals, sample_without_replacement
from adaptive_sampler.kernels.splitmix import number, stream
from adaptive_sampler.kernels.weigh import Weights, pieces, summed

__all__ = ["multinomial_counts", "sample_without_replacement"]

# The same numbers on every platform: integers, comparisons and single IEEE additions and multiplications in a
# fixed order; no libm (hence an exponential of our own), no fused multiply-add (Numba makes none), no
# fastmath.

_MOST = 6.0  # the largest mean of one inversion; a larger Poisson count is a sum of several
_TERMS = 12  # of the inversion without a branch; a count beyond (1 % of those at the largest mean) takes a loop
_ULP53 = 2.0**-53


@kernel
def _uniform(number: Any) -> Any:
    """In [0, 1), a multiple of 2**-53."""
    return np.float64(np.int64(number >> np.uint64(11))) * _ULP53


@kernel
def _exp_minus(x: Any) -> Any:
    """exp(-x) for x in [0, 6] to a relative 3e-10, and exactly 1 at 0: exp(-x/16) by its series, to the
    16th."""
    y = x * -0.0625
    e = 1 / 24 + y * (1 / 120 + y * (1 / 720 + y * (1 / 5040 + y * (1 / 40320 + y * (1 / 362880)))))
    e = 1.0 + y * (1.0 + y * (1 / 2 + y * (1 / 6 + y * e)))
    e *= e
    e *= e
    e *= e
    return e * e


@kernel
def _invert(mean: Any, u: Any) -> Any:
    """The Poisson count at quantile u, for a mean in [0, 6]."""
    p = _exp_minus(mean)
    end = p
    k = 0
    while u >= end and k < 64:  # beyond 64 lies less than one u in 2**53, and rounding may keep `end` below u
        k += 1
        p *= mean * (1.0 / k)
        end += p
    return k


@kernel
def poisson(start: Any, more: Any, hashes: Any, named: Any, at: Any, weights: Any, rate: Any, counts: Any) -> Any:
    """counts[i] ~ Poisson(rate · weights[i]), independently, into (m,) uint32, of row `at` + i; returns their sum.

    start, hashes, named: as `hash_places` takes them. `more`: where the sequence begins whose number of a row's name begins a
    sequence of its own, which large means take.
    """
    numbers = np.empty(64, np.uint64)
    us = np.empty(64, np.float64)
    ks = np.empty(64, np.int64)
    total = np.int64(0)
    for first in range(0, weights.size, 64):
        size = min(64, weights.size - first)
        block = weights[first : first + size]
        beyond = np.int64(0)
        hash_places(start, hashes, named, NO_PLACES, at + first, numbers[:size])
        for i in range(size):
            us[i] = _uniform(numbers[i])
        for i in range(size):  # no branches, so it is vectorised; what it cannot settle is done below
            mean = np.float64(block[i]) * rate
            part = mean if mean < _MOST else _MOST
            p = _exp_minus(part)
            end = p
            k = np.int64(0)
            for term in range(1, _TERMS + 1):
                k += np.int64(us[i] >= end)
                p *= part * (1.0 / term)
                end += p
            ks[i] = k
            beyond += np.int64(k == _TERMS or mean > _MOST)
        if beyond:
            for i in range(size):
                mean = np.float64(block[i]) * rate
                if ks[i] == _TERMS or mean > _MOST:
                    ks[i] = _invert(min(mean, _MOST), us[i])
                    row = at + first + i
                    name = hashes[row] if hashes.size else np.uint64(named[row] if named.size else row)
                    parts = number(more, name)
                    j = 0
                    while mean > _MOST:
                        mean -= _MOST
                        ks[i] += _invert(min(mean, _MOST), _uniform(number(parts, j)))
                        j += 1
        for i in range(size):
            counts[first + i] = np.uint32(ks[i])
            total += ks[i]
    return total


@kernel
def _count(counts: Any, most: Any, rows: Any) -> Any:
    """Count `rows`, up to the first whose count is `most` already; returns how many were counted."""
    for i in range(rows.size):
        if counts[rows[i]] == most:
            return i
        counts[rows[i]] += 1
    return rows.size


def multinomial_counts(
    weights: Weights, num_samples: int, *, key: int, identity: Identity | None = None
) -> NDArray[Any]:
    """How often each row comes up in `num_samples` independent draws with p ∝ weights, (n,) uint8, or where one needs it uint16
    or uint32.

    `weights` is (n,) float32, finite, at least 0, one of them positive; num_samples < 2**32 (the caller
    checks). A row without weight never comes up. Linear in n + num_samples. `identity`: the names of the n rows; None:
    their numbers.

    Each row arrives again and again, at the rate of its weight, as in a Poisson process of its own, and the first
    `num_samples` arrivals are in: which of two rows comes next depends on their weights alone, so these are independent
    draws. Where many are drawn, arrivals are only counted until a time before which nearly always a few less have come.
    """
    identity = identity or RowIdentity(len(weights))
    counts: NDArray[Any] = np.zeros(len(weights), np.uint8)
    total, came = summed(weights), 0
    if num_samples >= max(len(weights) // 8, 1024):
        until = (num_samples - 5 * math.sqrt(num_samples)) / total
        for attempt in count(2, 2):
            starts = stream(key, attempt), stream(key, attempt + 1)
            counts, came = _arrived(counts, starts, identity.names, weights, until)
            if came <= num_samples:  # a sum above num_samples (1 in 3 million) says nothing of its parts
                break
    if came < num_samples:
        counts = _counted(counts, first_arrivals(weights, total, num_samples - came, key=key, identity=identity))
    return counts


def _arrived(
    counts: NDArray[Any], starts: tuple[np.uint64, np.uint64], names: Names, weights: Weights, until: float
) -> tuple[NDArray[Any], int]:
    """`poisson` of all rows, a piece at a time, into `counts`, or into wider ones; and their sum."""
    total = 0
    for first, piece in pieces(weights):
        some = np.empty(len(piece), np.uint32)
        total += int(poisson(*starts, *names, first, piece, until, some))
        if (most := int(some.max())) > np.iinfo(counts.dtype).max:
            counts = counts.astype(np.min_scalar_type(most))
        counts[first : first + len(piece)] = some
    return counts, total


def _counted(counts: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """`counts`, or wider ones, in which `rows` are counted too."""
    while True:
        most = np.iinfo(counts.dtype).max
        rows = rows[_count(counts, most, rows) :]
        if not len(rows):
            return counts
        counts = counts.astype(np.min_scalar_type(most + 1))
