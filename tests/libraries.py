"""Converters from NumPy arrays to every array library that a measure runs on. A missing library skips its tests."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def _torch(dtype: str | None = None, grad: bool = False) -> Callable[[Any], Any]:
    def make(array: Any) -> Any:
        torch = pytest.importorskip("torch")
        tensor = torch.tensor(np.asarray(array))
        if not tensor.is_floating_point():
            return tensor
        return tensor.to(getattr(torch, dtype or "float32")).requires_grad_(grad)

    return make


def _jax(dtype: str | None = None) -> Callable[[Any], Any]:
    def make(array: Any) -> Any:
        jnp = pytest.importorskip("jax.numpy")
        array = np.asarray(array)
        return jnp.asarray(array, (dtype and array.dtype.kind == "f" and getattr(jnp, dtype)) or None)

    return make


def _numpy(dtype: Any) -> Callable[[Any], Any]:
    def make(array: Any) -> Any:
        array = np.asarray(array)
        return array.astype(dtype) if array.dtype.kind == "f" else array

    return make


LIBRARIES: dict[str, Callable[[Any], Any]] = {
    "numpy float32": _numpy(np.float32),
    "numpy float64": _numpy(np.float64),
    "numpy float16": _numpy(np.float16),
    "torch float32": _torch("float32"),
    "torch float64": _torch("float64"),
    "torch float16": _torch("float16"),
    "torch bfloat16": _torch("bfloat16"),
    "torch requires_grad": _torch("float32", grad=True),
    "jax float32": _jax("float32"),
    "jax float16": _jax("float16"),
    "jax bfloat16": _jax("bfloat16"),
}
FULL = ["numpy float32", "numpy float64", "torch float32", "torch float64", "torch requires_grad", "jax float32"]
HALF = ["numpy float16", "torch float16", "torch bfloat16", "jax float16", "jax bfloat16"]
ONE_EACH = ["numpy float32", "torch float32", "jax float32"]


def arrow(kind: str | None = None, encoded: bool = False) -> Callable[[Any], Any]:
    """An array of PyArrow in two chunks, or a dictionary array."""

    def make(values: Any) -> Any:
        pa = pytest.importorskip("pyarrow")
        array = pa.array(values, getattr(pa, kind)() if kind else None)
        return array.dictionary_encode() if encoded else pa.chunked_array([array.slice(0, 1), array.slice(1)])

    return make


def pandas(kind: str) -> Callable[[Any], Any]:
    """A series of pandas."""
    return lambda values: pytest.importorskip("pandas").Series(values, dtype=kind)


def polars(values: Any) -> Any:
    """A series of Polars."""
    return pytest.importorskip("polars").Series(values)
