"""Compute all measures of NumPy logits in one pass of a kernel; an array library needs a dozen operations for each."""

import numpy as np

from adaptive_sampler.arrays import Array, library, on_host, to_host
from adaptive_sampler.kernels import measure as kernels
from adaptive_sampler.scoring.sharing import mark, once

MANY = 100  # classes: from this number on, the vectorised operations of an array library are as fast


@once
def at_hand(x: Array) -> Array:
    """`x` as a NumPy array if it lies on the host and requires no gradient, else `x` itself.

    NumPy's operations have the least overhead.
    """
    if not on_host(x) or getattr(x, "requires_grad", False):
        return x
    host = to_host(x)
    if host.itemsize != x.dtype.itemsize:  # half precision has become float32
        mark(host)
    return host


@once
def one_pass(logits: Array, labels: Array) -> np.ndarray | None:
    """All measures of a batch, (lines, batch) float32; kernels/measure.py numbers the lines. Or None.

    None means that each measure must be computed by itself: for arrays that are not NumPy's, because their library may
    record the operations (for gradients); for `MANY` classes or more; and for labels that are no classes, because the
    measure then raises and says which.
    """
    powers = _powers(logits)
    if powers is None:
        return None
    classes = _classes(labels, len(powers[0]))
    if classes is None:
        return None
    found = np.empty((len(kernels.LINES), len(classes)), np.float32)
    return found if kernels.measure(*powers, classes, found) < 0 else None


def entropies(logits: Array) -> np.ndarray | None:
    """The entropies, (batch,) float32, of NumPy logits with fewer than `MANY` classes; None for other logits."""
    powers = _powers(logits)
    if powers is None:
        return None
    found = np.empty(len(powers[0]), np.float32)
    kernels.entropy(*powers[1:], found)
    return found


@once
def _powers(logits: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The logits, the logits minus the largest of each row, and the exponentials of that; None as for `one_pass`."""
    if library(logits) != "numpy" or logits.ndim != 2 or not 2 <= logits.shape[1] < MANY or logits.dtype.kind != "f":
        return None
    host = np.ascontiguousarray(logits, np.float64 if logits.dtype == np.float64 else np.float32)
    shifted = np.empty_like(host)
    kernels.shift(host, shifted)
    with np.errstate(all="ignore"):
        return host, shifted, np.exp(shifted)


def _classes(labels: Array, batch: int) -> np.ndarray | None:
    """The labels as int64 if they are a NumPy array of one integer per sample, else None."""
    if library(labels) != "numpy" or labels.shape != (batch,) or labels.dtype.kind not in "iu":
        return None
    return np.ascontiguousarray(labels, np.int64)
