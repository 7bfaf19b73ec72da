"""Measured values become one matrix on the host, which is what a table folds."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from adaptive_sampler.arrays import as_array, numbers, to_host
from adaptive_sampler.errors import InvalidValue

FLOAT32 = np.dtype(np.float32)
NUMPY = {np.ndarray}


def matrix(batch: int, values: Mapping[str, Any]) -> np.ndarray:
    """The values as (scores, batch) float32 on the host; `values`: score name -> (batch,).

    Raises `InvalidValue` for values of another shape, or that are no real numbers.
    """
    arrays = [*values.values()]
    if set(map(type, arrays)) == NUMPY:  # the usual case at every training step: few operations
        try:
            matrix = np.array(arrays)
        except ValueError:
            matrix = np.empty(0)  # unequal lengths: `_line` raises below
        if matrix.dtype is FLOAT32 and matrix.shape == (len(arrays), batch):
            return matrix
    return np.stack([_line(name, value, batch) for name, value in values.items()])


def _line(name: str, values: Any, batch: int) -> np.ndarray:
    """One score's values as (batch,) float32 on the host. Raises `InvalidValue` for another shape or kind of dtype."""
    host = numbers(to_host(as_array(values)))
    if host.shape != (batch,):
        raise InvalidValue(
            f"{name}: {host.shape} values for {(batch,)} rows; one value a row is needed. The leading axis of every "
            "observation must be that of rows."
        )
    if host.dtype.kind not in "fiub":
        raise InvalidValue(f"{name}: values of dtype {host.dtype} are no real numbers.")
    with np.errstate(all="ignore"):
        return host.astype(FLOAT32)
