"""The measures of NumPy's logits: a kernel finds them all at once, where a library takes a dozen operations each."""

import numpy as np

from adaptive_sampler.arrays import Array, library, on_host, to_host
from adaptive_sampler.kernels import measure as kernels
from adaptive_sampler.scoring.sharing import mark, once

MANY = 100  # classes: the operations of a library, which take several numbers at a time, are as fast from here on


@once
def at_hand(x: Array) -> Array:
    """`x` as NumPy's, whose operations take the least time to begin, where it lies on the host and wants no gradient."""
    if not on_host(x) or getattr(x, "requires_grad", False):
        return x
    host = to_host(x)
    if host.itemsize != x.dtype.itemsize:  # NumPy has no bfloat16: halves arrive as singles
        mark(host)
    return host


@once
def one_pass(logits: Array, labels: Array) -> np.ndarray | None:
    """(lines, batch) float32 by the lines of kernels/measure.py.

    None for other arrays than NumPy's, whose library may be following what is done with them; where there are `MANY`
    classes; and where a measure has to say what is wrong.
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
    """(batch,) float32, of NumPy's logits and fewer than `MANY` classes; else None."""
    powers = _powers(logits)
    if powers is None:
        return None
    found = np.empty(len(powers[0]), np.float32)
    kernels.entropy(*powers[1:], found)
    return found


@once
def _powers(logits: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Logits, the same less the largest of each row, and the exponentials of these."""
    if library(logits) != "numpy" or logits.ndim != 2 or not 2 <= logits.shape[1] < MANY or logits.dtype.kind != "f":
        return None
    host = np.ascontiguousarray(logits, np.float64 if logits.dtype == np.float64 else np.float32)
    shifted = np.empty_like(host)
    kernels.shift(host, shifted)
    with np.errstate(all="ignore"):
        return host, shifted, np.exp(shifted)


def _classes(labels: Array, batch: int) -> np.ndarray | None:
    if library(labels) != "numpy" or labels.shape != (batch,) or labels.dtype.kind not in "iu":
        return None
    return np.ascontiguousarray(labels, np.int64)
