"""Sums of float32 values without an error: the same in any order, and of parts that are added up."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import bits_of_float32

if TYPE_CHECKING:
    from fractions import Fraction

EXPONENTS = 256  # that float32 has, the last of which is that of inf and NaN
_LANES = 8  # sums that are added to in turn, as an addition waits for the one before at the same place


@kernel
def _parts(value: Any) -> Any:
    """(biased exponent, signed mantissa) of a float32; the mantissa is 0 for what is not finite."""
    bits = np.int64(bits_of_float32(value))
    exponent = (bits >> 23) & 0xFF
    mantissa = (bits & 0x7FFFFF) | (np.int64(exponent != 0) << 23)
    sign = bits >> 31
    return exponent, ((mantissa ^ -sign) + sign) * np.int64(exponent != 0xFF)


@kernel
def _deposit(values: Any, lanes: Any) -> Any:
    """Add the finite ones of `values`, float32, to `lanes`, in turn; returns how many these are."""
    added = np.int64(0)
    whole = values.size // _LANES * _LANES
    for i in range(0, whole, _LANES):
        for j in range(_LANES):
            exponent, mantissa = _parts(values[i + j])
            lanes[j, exponent] += mantissa
            added += exponent != 0xFF
    for i in range(whole, values.size):
        exponent, mantissa = _parts(values[i])
        lanes[i - whole, exponent] += mantissa
        added += exponent != 0xFF
    return added


def add(values: NDArray[np.float32], sums: NDArray[np.int64]) -> int:
    """Add the finite ones of `values`, (n,) float32, to `sums`, (256,) int64, zeros at first; returns how many these are.

    sums[e] is the sum of the signed 24-bit mantissas of the values whose biased exponent is e. So the sums of parts add up to
    those of the whole, in any order. They hold 2³⁹ values at least.
    """
    each = np.zeros((_LANES, EXPONENTS), np.int64)
    added = int(_deposit(values, each))
    sums += each.sum(axis=0)
    return added


def summed(values: NDArray[np.float32]) -> float:
    """The sum of the finite ones of `values`, (n,) float32, rounded once."""
    sums = np.zeros(EXPONENTS, np.int64)
    add(values, sums)
    return float(total(sums))


def mean(values: NDArray[np.float32]) -> float:
    """The mean of the finite ones of `values`, (n,) float32, rounded once; 0 where there is none."""
    sums = np.zeros(EXPONENTS, np.int64)
    added = add(values, sums)
    return float(total(sums) / added) if added else 0.0


def total(sums: NDArray[np.int64]) -> "Fraction":
    """The exact sum of the values in `sums`, as `add` leaves them. `float(total(sums))` is rounded correctly."""
    from fractions import Fraction  # imported late, so that importing the package stays fast

    units = sum(int(sums[exponent]) << max(exponent - 1, 0) for exponent in np.flatnonzero(sums).tolist())
    return Fraction(units, 1 << 149)  # of which the smallest float32 above 0 is one
