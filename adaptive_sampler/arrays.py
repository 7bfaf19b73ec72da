"""Any framework's arrays, brought to NumPy on the host, without importing the framework."""

import sys
from typing import Any

import array_api_compat
import numpy as np

from adaptive_sampler.errors import InvalidValue

Array = Any  # whatever the Array API describes: NumPy, torch, JAX, CuPy

_LIBRARIES: dict[type, str] = {}  # asked for at each step of a training, where every look at an array counts


def library(x: Any) -> str:
    """Whose array `x` is: "numpy", "torch", "cupy" or "another"; "" where it is none."""
    kind = type(x)
    if kind not in _LIBRARIES:
        masked = sys.modules.get("numpy.ma")  # NumPy itself imports it late
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
    """`x` itself where it is some library's array, else a NumPy array of it (lists, scalars)."""
    return x if library(x) else np.asarray(x)


def to_host(x: Any) -> np.ndarray:
    """`x` as a NumPy array on the host, without its gradient history. Waits for a device where `x` lies on one."""
    whose = library(x)
    if whose == "torch":
        if x.dtype.is_floating_point and x.dtype.itemsize <= 2:
            x = x.float()  # NumPy has no bfloat16
        try:
            host: np.ndarray = x.numpy()  # a view, by one operation of torch's instead of six
        except (RuntimeError, TypeError):  # it wants a gradient, or is elsewhere
            host = x.numpy(force=True)
        return host
    if whose in ("numpy", ""):
        return np.asarray(x)
    return numbers(np.asarray(array_api_compat.to_device(x, "cpu") if whose == "cupy" else x))


def numbers(array: np.ndarray) -> np.ndarray:
    """The array, as float32 where it is of ml_dtypes' bfloat16 or float8, as JAX has them: no numbers to NumPy."""
    return array.astype(np.float32) if array.dtype.kind == "V" and "float" in array.dtype.name else array


def like(x: Any, reference: Array) -> Array:
    """`x` as an array of the library and device of `reference`; itself where it is one of that library already."""
    if library(x):
        if array_api_compat.array_namespace(x) is array_api_compat.array_namespace(reference):
            return x
        x = to_host(x)
    x = np.asarray(x)
    if x.size == 0 and x.dtype == np.float64:
        x = x.astype(np.int32)  # an empty list has no type of its own
    x = np.require(x, x.dtype.newbyteorder("="), ["C", "W"])  # torch takes no other, or warns
    xp = array_api_compat.array_namespace(reference)
    return xp.asarray(x, device=array_api_compat.device(reference))


def on_host(x: Array) -> bool:
    """Whether looking at the values of `x` costs nothing: NumPy, or torch on the CPU outside a transform."""
    whose = library(x)
    return whose == "numpy" or (whose == "torch" and x.device.type == "cpu" and type(x).__name__ != "FakeTensor")


def as_rows(rows: Any, n: int) -> np.ndarray:
    """`rows` as a contiguous (batch,) int64 array.

    Raises `InvalidValue` for anything but one axis of integers. That 0 <= row < `n` is for the caller's kernel to see:
    it reads every row anyway.
    """
    array = to_host(rows)
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
    return np.ascontiguousarray(array, np.int64)
