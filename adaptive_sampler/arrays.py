"""Bring any framework's arrays to NumPy on the host, without importing the framework."""

import sys
from typing import Any

import array_api_compat
import numpy as np

from adaptive_sampler.errors import InvalidValue

Array = Any  # an array of any library that follows the Array API: NumPy, torch, JAX, CuPy

_ROWS = np.dtype(np.int64)
_LIBRARIES: dict[type, str] = {}  # type of array -> library: a cache, because every training step asks for it


def library(x: Any) -> str:
    """The library that `x` is an array of: "numpy", "torch", "cupy" or "another"; "" if `x` is not an array.

    Raises `InvalidValue` for a masked array, because its mask would be lost.
    """
    kind = type(x)
    if kind not in _LIBRARIES:
        masked = sys.modules.get("numpy.ma")  # not imported before somebody uses it
        if masked is not None and isinstance(x, masked.MaskedArray):
            raise InvalidValue(
                f"a masked array of shape {x.shape}: its mask would be lost. Leave the masked rows out of every array, as "
                "`.compressed()` does on one axis."
            )
        known = {
            "numpy": array_api_compat.is_numpy_array,
            "torch": array_api_compat.is_torch_array,
            "cupy": array_api_compat.is_cupy_array,
            "another": array_api_compat.is_array_api_obj,
        }
        _LIBRARIES[kind] = next((name for name, recognises in known.items() if recognises(x)), "")
    return _LIBRARIES[kind]


def as_array(x: Any) -> Array:
    """`x` itself if it is an array of some library; otherwise (a list, a scalar) a NumPy array made from it."""
    return x if library(x) else np.asarray(x)


def to_host(x: Any) -> np.ndarray:
    """`x` as a NumPy array on the host, without its gradient history. Waits for the device if `x` lies on one.

    torch's floats of 16 bits or fewer, and bfloat16 and float8 of other libraries, become float32.
    """
    whose = library(x)
    if whose == "torch":
        if x.dtype.is_floating_point and x.dtype.itemsize <= 2:
            x = x.float()  # NumPy has no bfloat16
        try:
            host: np.ndarray = x.numpy()  # a view, made by one torch operation; force=True takes six
        except (RuntimeError, TypeError):  # `x` requires a gradient, or lies on a device
            host = x.numpy(force=True)
        return host
    if whose in ("numpy", ""):
        return np.asarray(x)
    return numbers(np.asarray(array_api_compat.to_device(x, "cpu") if whose == "cupy" else x))


def as_labels(x: Any) -> np.ndarray:
    """Labels as an array on the host: texts that are there as objects, as in a column of pandas, become texts."""
    found = np.asarray(to_host(x))
    if found.dtype == object and found.ndim == 1 and all(isinstance(label, str) for label in found):
        found = found.astype(np.str_)
    return found


def numbers(array: np.ndarray) -> np.ndarray:
    """The array itself, or a float32 copy if its dtype is bfloat16 or float8 of ml_dtypes, which JAX uses.

    NumPy does not treat these dtypes as numbers.
    """
    return array.astype(np.float32) if array.dtype.kind == "V" and "float" in array.dtype.name else array


def as_compiled(array: np.ndarray, dtype: Any) -> np.ndarray:
    """The array in the one layout that kernels are compiled for ahead: contiguous, aligned and writable; else a copy.

    Numba would compile for any other at its first call, which takes seconds, and not once ahead.
    """
    if array.dtype == dtype and array.flags.carray:
        return array
    found = np.ascontiguousarray(array, dtype)
    return found if found.flags.carray else found.copy()


def like(x: Any, reference: Array) -> Array:
    """`x` as an array of the library of `reference`, on its device.

    An `x` that is already an array of that library is returned as it is, wherever it lies.
    """
    if library(x):
        if array_api_compat.array_namespace(x) is array_api_compat.array_namespace(reference):
            return x
        x = to_host(x)
    x = np.asarray(x)
    if x.size == 0 and x.dtype == np.float64:
        x = x.astype(np.int32)  # an empty list: NumPy makes it float64, and labels must be integers
    x = np.require(x, x.dtype.newbyteorder("="), ["C", "W"])  # torch refuses other layouts, and warns of read-only ones
    xp = array_api_compat.array_namespace(reference)
    return xp.asarray(x, device=array_api_compat.device(reference))


def on_host(x: Array) -> bool:
    """Whether the values of `x` can be read without waiting for a device.

    True for NumPy, and for torch on the CPU, except for torch's FakeTensor, which has no values.
    """
    whose = library(x)
    return whose == "numpy" or (whose == "torch" and x.device.type == "cpu" and type(x).__name__ != "FakeTensor")


def as_rows(rows: Any, n: int) -> np.ndarray:
    """`rows` as a contiguous (batch,) int64 array.

    Raises `InvalidValue` for anything but one axis of integers that fit int64; an empty array may have any dtype. Does not
    check 0 <= row < `n`: the caller's kernel does, because it reads every row anyway. `n` is only for the messages.
    """
    array = to_host(rows)
    if array.dtype == _ROWS and array.ndim == 1 and array.flags.carray:  # asked first: what every training step gives
        return array
    if array.ndim != 1:
        raise InvalidValue(f"rows have shape {array.shape}: one axis of row numbers is needed. Flatten them.")
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype == np.bool_:
        raise InvalidValue(
            f"rows have dtype bool: rows are integers 0 … {n - 1}. Pass np.flatnonzero(mask) for the rows that a mask marks."
        )
    if array.dtype.kind not in "iu":
        raise InvalidValue(
            f"rows have dtype {array.dtype}: rows are integers 0 … {n - 1}. "
            "Carry them as int64; half precision corrupts ids above 2048 and float32 above 2**24."
        )
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise InvalidValue(f"row {array.max()} does not fit int64. Rows are 0 … {n - 1}.")
    return as_compiled(array, np.int64)
