"""Exponentials and logarithms that loops compute in lanes, many at a time: a call of the C library's would keep them from it."""

import numpy as np

from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import bits_of_float32, bits_of_float64, float32_of, float64_of, multiply_add

# e^d = 2^n · e^r, where n is the nearest integer to d / ln 2, and e^r = 1 + C1·r + … + C5·r⁵, |r| ≤ ln 2 / 2, whose largest
# relative error is 9.1e-8 (coefficients: weighted least squares, reweighted until all extremes are alike)
LOWEST = np.float32(-87)  # e^LOWEST is the smallest power that float32 has all digits of
LOG2_E, LN2, ONE = np.float32(1.442695), np.float32(0.6931472), np.float32(1)
C1, C2, C3 = np.float32(0.99999974), np.float32(0.4999915), np.float32(0.16667636)
C4, C5 = np.float32(0.041897931), np.float32(0.0082903148)
ROUND = np.float32(3 << 22)  # a float32 of this size has no place behind the point: adding it rounds
EXPONENT = np.uint32(23)  # bits below the exponent

LOWEST_64 = -708.0
LN2_64 = 0.6931471805599453
ROUND_64 = float(3 << 51)
EXPONENT_64, BIAS_64, FRACTION_64 = np.uint64(52), np.uint64(1023), np.uint64((1 << 52) - 1)
ROOT_HALF = np.uint64(0x3FE6A09E667F3BCD)  # the bits of √½


@kernel
def power(d):
    """e^d of a float32 from `LOWEST` to 0; of a NaN any number."""
    n = multiply_add(d, LOG2_E, ROUND)
    r = multiply_add(ROUND - n, LN2, d)
    p = multiply_add(multiply_add(multiply_add(multiply_add(C5, r, C4), r, C3), r, C2), r, C1)
    return float32_of(np.uint32(bits_of_float32(multiply_add(p, r, ONE)) + np.uint32(bits_of_float32(n) << EXPONENT)))


@kernel
def power_64(d):
    """e^d of a float64 from `LOWEST_64` to 0, within 3e-10 of itself; of a NaN any number."""
    n = d * 1.4426950408889634 + ROUND_64
    r = d - (n - ROUND_64) * LN2_64
    p = 1 + r * (
        1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * (1 / 40320)))))))
    )
    return float64_of(np.uint64(bits_of_float64(p) + np.uint64(bits_of_float64(n) << EXPONENT_64)))


@kernel
def log1p_64(u):
    """log(1 + u) of a float64 from 0 on, within 1e-10 of itself; of inf and NaN any number."""
    v = 1 + u
    bits = bits_of_float64(v)
    n = np.uint64(bits - ROOT_HALF) >> EXPONENT_64  # v = 2^n · m, √½ <= m < √2
    m = float64_of(np.uint64(bits - np.uint64(n << EXPONENT_64)))
    s = (m - 1) / (m + 1)
    q = s * s
    log = 2 * s * (1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13)))))))
    return np.float64(np.int64(n)) * LN2_64 + (log + (u - (v - 1)) / v)
