"""Compute all measures of logits on the host in one pass of a kernel; an array library needs a dozen operations for each."""

from collections.abc import Iterator

import numpy as np

from adaptive_sampler.arrays import Array, as_compiled, library, on_host, to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import measure as kernels
from adaptive_sampler.kernels.jit import compiles
from adaptive_sampler.scoring.sharing import mark, once, remember

_ALL = np.arange(kernels.SIZE)
_EXACT = (np.dtype(np.float32), np.dtype(np.float64))  # in which the kernel computes
_LABELS = np.dtype(np.int64)
CONVERTED = 1 << 18  # bytes of float32 that are made at a time where logits are to be converted: they stay in the cache


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
    """All measures of a batch, (lines, batch) float32; the kernel numbers the lines. Or None.

    None means that each measure must be computed by itself: for arrays that are not NumPy's, because their library may
    record the operations (for gradients); and for labels that are no classes, because the measure then raises and says
    which.
    """
    found = lines_of(logits, labels, _ALL)
    if found is not None:
        remember(entropies, found[kernels.ENTROPY], logits)
    return found


@once
def entropies(logits: Array) -> np.ndarray | None:
    """The entropies, (batch,) float32, of NumPy logits; None for other arrays."""
    if not _measurable(logits):
        return None
    found, _ = _many(
        logits, logits.argmax(1), lowest=0
    )  # of any label; sums that leave out the likeliest lose the fewest digits
    return None if found is None else found[kernels.ENTROPY]


def lines_of(logits: Array, labels: Array, lines: np.ndarray) -> np.ndarray | None:
    """Only these `lines`, (lines,) int64, of what `one_pass` finds, (lines, batch) float32, in their order; or None, as it says."""
    if _ready(logits, labels):
        found = np.empty((lines.shape[0], logits.shape[0]), np.float32)
        return found if kernels.measure(logits, labels, 0, lines, 0, found) < 0 else None
    if not _measurable(logits) or (classes := _classes(labels, len(logits))) is None:
        return None
    return _many(logits, classes, lowest=0, lines=lines)[0]


def tokens(logits: Array, labels: Array) -> np.ndarray | None:
    """All measures of each token, (lines, tokens) float32, numbered by kernels/measure.py; None for logits on a device.

    `logits`: (tokens, classes) on the host, of which no gradient is followed. `labels`: (tokens,) integers; one below 0 says
    that its token does not count: its logits are not read, and its values are NaN. Beside the result memory is taken only
    for half precision and for rows that do not lie behind one another, and then for a few at a time. Raises `InvalidValue`
    for other shapes and for a label above the classes.
    """
    if not on_host(logits):
        return None
    labels = as_compiled(to_host(labels), np.int64)
    if len(logits.shape) != 2 or logits.shape[1] < 2 or labels.shape != (logits.shape[0],):
        raise InvalidValue(
            f"logits {tuple(logits.shape)} and labels {labels.shape}: (tokens, classes), of two classes or more, and (tokens,) are "
            "needed. Flatten the batch: logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)."
        )
    found, wrong = _many(logits, labels, lowest=np.iinfo(np.int64).min)
    if found is None:
        raise InvalidValue(
            f"label {labels[wrong]} at position {wrong} is outside 0 … {logits.shape[1] - 1}. Give tokens that do not count a "
            "label below 0, such as -100."
        )
    return found


def leave_out(logits: Array, labels: Array) -> None:
    """Within `shared`, have the measures of these very arrays leave out tokens whose label is below 0, as `tokens` does.

    The arrays are those of `tokens`, on the host. The measures of this package then find what is measured here, in one pass
    over the logits, also over those of half precision, which are never converted whole.
    """
    found, label = tokens(logits, labels), at_hand(labels)
    unread = np.broadcast_to(np.float32(0), tuple(logits.shape))  # in place of the logits, which need not be read again
    remember(at_hand, unread, logits)
    remember(one_pass, found, unread, label)
    remember(entropies, None if found is None else found[kernels.ENTROPY], unread)


def _ready(logits: Array, labels: Array) -> bool:
    """Whether the kernel takes these as they are: the usual case, which every step asks for, so that nothing else is asked then."""
    return (
        type(logits) is np.ndarray
        and type(labels) is np.ndarray
        and logits.dtype in _EXACT
        and labels.dtype == _LABELS
        and logits.ndim == 2
        and logits.shape[1] >= 2
        and labels.shape == logits.shape[:1]
        and logits.flags.carray
        and labels.flags.carray
        and compiles()
    )


def _measurable(logits: Array) -> bool:
    """Whether these are NumPy's logits, (batch, classes), of two classes or more, and kernels are compiled."""
    known = library(logits) == "numpy" and logits.ndim == 2 and logits.shape[1] >= 2 and logits.dtype.kind == "f"
    return known and compiles()


def _many(
    logits: Array, classes: np.ndarray, *, lowest: int, lines: np.ndarray = _ALL
) -> tuple[np.ndarray | None, int]:
    """(these measures, -1), or (None, the position of a label that is below `lowest` or above the classes)."""
    found = np.empty((len(lines), len(classes)), np.float32)
    for begin, some in _converted(logits):
        wrong = kernels.measure(some, classes[begin : begin + len(some)], lowest, lines, begin, found)
        if wrong >= 0:
            return None, wrong
    return found, -1


def _converted(logits: Array) -> Iterator[tuple[int, np.ndarray]]:
    """Some rows at a time as a kernel takes them, and where each some begins: all at once if nothing is to be converted."""
    host = None if _is_half(logits) else to_host(logits)
    if host is not None and host.flags.carray and host.dtype == _precision(host):
        yield 0, host
        return
    step = max(1, CONVERTED // (4 * logits.shape[1]))
    for begin in range(0, logits.shape[0], step):
        some = to_host(logits[begin : begin + step])
        yield begin, as_compiled(some, _precision(some))


def _is_half(logits: Array) -> bool:
    """Whether `to_host` would convert the whole array."""
    return library(logits) == "torch" and logits.dtype.itemsize <= 2


def _precision(logits: np.ndarray) -> type[np.floating]:
    """In what the kernels compute: float64 for float64, else float32."""
    return np.float64 if logits.dtype == np.float64 else np.float32


def _classes(labels: Array, batch: int) -> np.ndarray | None:
    """The labels as int64 if they are a NumPy array of one integer per sample, else None."""
    if library(labels) != "numpy" or labels.shape != (batch,) or labels.dtype.kind not in "iu":
        return None
    return as_compiled(labels, np.int64)
