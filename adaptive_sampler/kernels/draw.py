"""Independent weighted draws with replacement, as counts; the entry to weighted draws of both kinds."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.race import sample_without_replacement
from adaptive_sampler.kernels.splitmix import number, stream

__all__ = ["multinomial_counts", "sample_without_replacement"]

# The same numbers on every platform: integers, comparisons and single IEEE additions and multiplications in a
# fixed order; no libm (hence an exponential of our own), no fused multiply-add (Numba makes none), no
# fastmath.

_BLOCK = 1 << 12  # rows whose cumulated weights stay in the first-level cache while they are drawn from
_LEVELS = 12
_MOST = 6.0  # the largest mean of one inversion; a larger Poisson count is a sum of several
_TERMS = 12  # of the inversion without a branch; a count beyond (1 % of those at the largest mean) takes a loop
_ULP53 = 2.0**-53


@kernel
def _uniform(key: Any, i: Any) -> Any:
    """In [0, 1), a multiple of 2**-53."""
    return np.float64(np.int64(number(key, i) >> np.uint64(11))) * _ULP53


@kernel
def _prefix(weights: Any, ends: Any) -> Any:
    """Cumulated weights into `ends`, the total into what is left of it; returns the total.

    Eight rows hang on one carry, so that the additions overlap. Never decreasing, and equal at a row without
    weight.
    """
    carry = np.float64(0)
    whole = weights.size // 8 * 8
    for i in range(0, whole, 8):
        part = np.float64(0)
        for j in range(8):
            part += np.float64(weights[i + j])
            ends[i + j] = carry + part
        carry += part
    for i in range(whole, weights.size):
        carry += np.float64(weights[i])
        ends[i] = carry
    ends[weights.size :] = carry
    return carry


@kernel
def _block_sums(weights: Any, sums: Any) -> None:
    """Sum of each block in float64, by eight partial sums in one fixed order."""
    part = np.empty(8, np.float64)
    for b in range(sums.size):
        part[:] = 0.0
        block = weights[b * _BLOCK : min((b + 1) * _BLOCK, weights.size)]
        whole = block.size // 8 * 8
        for i in range(0, whole, 8):
            for j in range(8):
                part[j] += np.float64(block[i + j])
        for i in range(whole, block.size):
            part[i - whole] += np.float64(block[i])
        total = 0.0  # `part.sum()` would have Numba load what it compiles a sum with, also where this is read from its cache
        for j in range(8):
            total += part[j]
        sums[b] = total


@kernel
def _draw(key: Any, first: Any, num: Any, ends: Any, levels: Any, counts: Any) -> None:
    """Add draws number first … first + num - 1 to `counts`: the first entry whose end is beyond u · total.

    len(ends) = 2**levels. A row without weight ends where the one before does, so it is never the first, and
    u · total < total in float64 for every u <= 1 - 2**-53.
    """
    total = ends[ends.size - 1]
    for i in range(first, first + num):
        target = _uniform(key, i) * total
        at = np.int64(0)
        for level in range(levels - 1, -1, -1):
            at += np.int64(ends[at + (1 << level) - 1] <= target) << level
        counts[at] += np.uint32(1)


@kernel
def _fill(key: Any, num_by_block: Any, weights: Any, counts: Any) -> None:
    """Draw within each block as often as the block itself was drawn."""
    ends = np.empty(_BLOCK, np.float64)
    done = np.int64(0)
    for b in range(num_by_block.size):
        num = np.int64(num_by_block[b])
        if num:
            _prefix(weights[b * _BLOCK : min((b + 1) * _BLOCK, weights.size)], ends)
            _draw(key, done, num, ends, _LEVELS, counts[b * _BLOCK :])
            done += num


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
def _poisson(key: Any, more_key: Any, weights: Any, rate: Any, counts: Any) -> Any:
    """counts[row] ~ Poisson(rate · weight), independently; returns their sum."""
    us = np.empty(64, np.float64)
    ks = np.empty(64, np.int64)
    total = np.int64(0)
    for start in range(0, weights.size, 64):
        size = min(64, weights.size - start)
        block = weights[start : start + size]
        beyond = np.int64(0)
        for i in range(size):
            us[i] = _uniform(key, start + i)
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
                    parts = number(more_key, start + i)
                    j = 0
                    while mean > _MOST:
                        mean -= _MOST
                        ks[i] += _invert(min(mean, _MOST), _uniform(parts, j))
                        j += 1
        for i in range(size):
            counts[start + i] = np.uint32(ks[i])
            total += ks[i]
    return total


def multinomial_counts(weights: NDArray[np.float32], num_samples: int, *, key: int) -> NDArray[np.uint32]:
    """How often each row comes up in `num_samples` independent draws with p ∝ weights: (n,) uint32.

    `weights` is (n,) float32, finite, at least 0, one of them positive; num_samples < 2**32 (the caller
    checks). A row without weight never comes up. Linear in n + num_samples, in float64 throughout.

    Most draws come as independent Poisson counts with a sum that is nearly always a little less than
    num_samples: given their sum they are distributed as that many draws. The rest is drawn one by one.
    """
    weights = np.ascontiguousarray(weights, np.float32)
    counts = np.zeros(len(weights), np.uint32)
    sums = np.empty(-(-len(weights) // _BLOCK))
    _block_sums(weights, sums)
    levels = max(0, len(sums) - 1).bit_length()
    ends = np.empty(1 << levels)
    total = float(_prefix(sums, ends))
    left = num_samples
    sure = num_samples - 5 * math.sqrt(num_samples)
    if num_samples >= max(len(weights) // 8, 1024):
        attempt = 2
        while left == num_samples or left < 0:  # a sum above num_samples (1 in 3 million) says nothing of its parts
            keys = stream(key, attempt), stream(key, attempt + 1)
            left = num_samples - int(_poisson(*keys, weights, sure / total, counts))
            attempt += 2
    by_block = np.zeros(len(ends), np.uint32)
    _draw(stream(key, 0), 0, left, ends, levels, by_block)
    _fill(stream(key, 1), by_block[: len(sums)], weights, counts)
    return counts
