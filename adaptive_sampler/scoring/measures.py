"""Measures: pure functions from the arrays of one observation to one float32 per sample.

Each runs on the library and device of its arrays (NumPy, torch, JAX, CuPy), through the Array API. Half precision and
integers are computed in float32, float64 in float64; the result is float32. On the host a kernel computes those of logits and
classes: there also float64's exponentials have only float32's digits, which suffice for the result. An entropy near 0 is
right to about 1e-7, every other result to about six digits. A logit of −inf is allowed if the result is
finite. A NaN in the input gives a NaN in the result. Labels that are no classes raise `InvalidValue` if they can be read
for free (NumPy, torch on the CPU); elsewhere they give NaN, because checking them would wait for the device. Arrays of
other shapes than those named raise `InvalidValue`.
"""

import array_api_compat
import numpy as np

from adaptive_sampler.arrays import Array, as_array, like, on_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import measure as kernels
from adaptive_sampler.scoring.one_pass import entropies, one_pass
from adaptive_sampler.scoring.sharing import marked, once

_SUM = 1e-3  # how far from 1 the sum of a label distribution may be
_SUM_OF_HALVES = 1e-2  # the same if the logits or the labels have half precision
_HALVES = ("float16", "bfloat16")

__all__ = ["confidence", "cross_entropy", "el2n", "entropy", "incorrect", "margin", "token_mean"]


def el2n(logits: Array, labels: Array) -> Array:
    """‖softmax(logits) − onehot(label)‖₂, in [0, √2]: not squared (Paul et al. 2021, Deep Learning on a Data Diet).

    `logits`: (batch, classes). `labels`: (batch,) integers, or (batch, classes) distributions, whose rows are ≥ 0 and sum
    to 1 within 1e-3, or within 1e-2 if logits or labels have half precision. Returns (batch,) float32.
    """
    if (found := one_pass(logits, labels)) is not None:
        return found[kernels.EL2N]
    given, (xp, logits) = logits, _logits(logits)
    labels = _like(labels, logits)
    with np.errstate(all="ignore"):
        p, _ = _softmax(xp, logits)
        if labels.ndim == 2:
            difference = p - _distributions(xp, given, logits, labels)
            return _float32(xp, xp.sqrt(xp.sum(difference * difference, axis=1)))
        labels, valid = _labels(xp, logits, labels)
        # 1 − p_y is computed as the sum of the other probabilities: near p_y = 1 a subtraction would lose digits.
        others = xp.where(_onehot(xp, logits, labels), xp.zeros_like(p), p)
        rest = xp.sum(others, axis=1)
        return _valid(xp, xp.sqrt(rest * rest + xp.sum(others * others, axis=1)), valid)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """−log softmax(logits)[label], in nats; −Σ q·log p for label distributions q. Shapes are as for `el2n`."""
    if (found := one_pass(logits, labels)) is not None:
        return found[kernels.LOSS]
    given, (xp, logits) = logits, _logits(logits)
    labels = _like(labels, logits)
    with np.errstate(all="ignore"):
        _, log_p = _softmax(xp, logits)
        if labels.ndim == 2:
            q = _distributions(xp, given, logits, labels)
            return _float32(xp, -xp.sum(xp.where(q == 0, xp.zeros_like(log_p), q * log_p), axis=1))
        labels, valid = _labels(xp, logits, labels)
        return _valid(xp, -_pick(xp, log_p, labels), valid)


def margin(logits: Array, labels: Array) -> Array:
    """logit of the label − the largest other logit; negative if another class wins (Pleiss et al. 2020, equation 1).

    `logits`: (batch, classes). `labels`: (batch,) integers. Returns (batch,) float32.
    """
    if (found := one_pass(logits, labels)) is not None:
        return found[kernels.MARGIN]
    xp, logits = _logits(logits)
    labels, valid = _labels(xp, logits, labels)
    with np.errstate(all="ignore"):
        lowest = xp.full_like(logits, -xp.inf)
        other = xp.max(xp.where(_onehot(xp, logits, labels), lowest, logits), axis=1)
        return _valid(xp, _pick(xp, logits, labels) - other, valid)


def confidence(logits: Array, labels: Array) -> Array:
    """softmax(logits)[label], in [0, 1] (Swayamdipta et al. 2020, Dataset Cartography, section 2).

    `logits`: (batch, classes). `labels`: (batch,) integers. Returns (batch,) float32.
    """
    if (found := one_pass(logits, labels)) is not None:
        return found[kernels.CONFIDENCE]
    xp, logits = _logits(logits)
    labels, valid = _labels(xp, logits, labels)
    with np.errstate(all="ignore"):
        return _valid(xp, xp.exp(_pick(xp, _softmax(xp, logits)[1], labels)), valid)


def entropy(logits: Array) -> Array:
    """−Σ p·log p of p = softmax(logits), in nats, in [0, log classes]; (batch, classes) -> (batch,) float32."""
    if (found := entropies(logits)) is not None:
        return found
    xp, logits = _logits(logits)
    with np.errstate(all="ignore"):
        p, log_p = _softmax(xp, logits)
        return _float32(xp, -xp.sum(xp.where(p == 0, xp.zeros_like(p), p * log_p), axis=1))


def incorrect(logits: Array, labels: Array) -> Array:
    """1 if argmax(logits) is not the label, else 0 (Liu et al. 2021, Just Train Twice, equation 3).

    `logits`: (batch, classes). `labels`: (batch,) integers. Returns (batch,) float32.
    """
    if (found := one_pass(logits, labels)) is not None:
        return found[kernels.INCORRECT]
    xp, logits = _logits(logits)
    labels, valid = _labels(xp, logits, labels)
    wrong = xp.astype(xp.argmax(logits, axis=1) != labels, xp.float32)
    known = ~xp.isnan(_largest(xp, logits)[:, 0])
    return _valid(xp, wrong, known if valid is None else known & valid)


def token_mean(loss: Array, mask: Array) -> Array:
    """The mean loss over the tokens of each sample that count.

    `loss`: (batch, tokens). `mask`: (batch, tokens), true or 1 for a token that counts. Returns (batch,) float32, NaN for
    a sample in which no token counts (a store refuses that, a hook skips it). Raises `InvalidValue` for other shapes.
    """
    loss = as_array(loss)
    mask = like(mask, loss)
    if loss.ndim != 2 or loss.shape != mask.shape:
        raise InvalidValue(
            f"loss {tuple(loss.shape)} and mask {tuple(mask.shape)}: both must be (batch, tokens). "
            "Use reduction='none' and shape the loss like the labels."
        )
    xp = array_api_compat.array_namespace(loss, mask)
    loss = _floating(xp, loss)
    counted = xp.astype(mask, xp.bool)
    with np.errstate(all="ignore"):
        total = xp.sum(xp.where(counted, loss, xp.zeros_like(loss)), axis=1)
        return _float32(xp, total / xp.sum(xp.astype(counted, loss.dtype), axis=1))


_like = once(like)


@once
def _logits(logits: Array) -> tuple[Array, Array]:
    logits = as_array(logits)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InvalidValue(
            f"logits have shape {tuple(logits.shape)}: (batch, classes) with two classes or more is needed. "
            "For one logit z a sample pass the two columns [0, z]; for tokens reduce first (token_mean)."
        )
    xp = array_api_compat.array_namespace(logits)
    return xp, _floating(xp, logits)


def _floating(xp: Array, x: Array) -> Array:
    return x if x.dtype in (xp.float32, xp.float64) else xp.astype(x, xp.float32)


@once
def _labels(xp: Array, logits: Array, labels: Array) -> tuple[Array, Array | None]:
    """Labels that are safe to index with, and which of them were valid, (batch,) bool; None if all were checked to be.

    Raises `InvalidValue` for labels that are not (batch,) integers, and on the host for a label that is no class.
    """
    labels = _like(labels, logits)
    if labels.ndim == 2:
        raise InvalidValue(
            f"labels have shape {tuple(labels.shape)}: this measure needs one class a sample, (batch,). Distributions "
            "over classes are taken by el2n and cross_entropy alone; pass labels.argmax(1) if that is what you mean."
        )
    if tuple(labels.shape) != (logits.shape[0],):
        raise InvalidValue(
            f"labels {tuple(labels.shape)} and logits {tuple(logits.shape)} disagree: labels must be (batch,)."
        )
    if not xp.isdtype(labels.dtype, "integral"):
        raise InvalidValue(f"labels have dtype {labels.dtype}: class indices are integers. Cast them to int64.")
    classes, free, given = logits.shape[1], on_host(labels), labels
    if free:
        labels = xp.astype(labels, xp.int64)
    elif labels.dtype not in (xp.int32, xp.int64):
        labels = xp.astype(labels, xp.int32)  # uint8 cannot be compared with 300 classes
    valid = (labels >= 0) & (labels < classes)
    if free:
        if not bool(xp.all(valid)):
            i = int(xp.argmax(xp.astype(~valid, xp.int8)))
            raise InvalidValue(
                f"label {int(given[i])} at position {i} is outside 0 … {classes - 1}. Drop such samples first; "
                "LossHook leaves out those that its criterion ignores (ignore_index)."
            )
        return labels, None
    return xp.where(valid, labels, xp.zeros_like(labels)), valid


@once
def _distributions(xp: Array, given: Array, logits: Array, q: Array) -> Array:
    """Label distributions, (batch, classes), in the logits' precision. `given`: the logits before any conversion.

    A row that is no distribution raises `InvalidValue` on the host, and becomes NaN on a device.
    """
    if tuple(q.shape) != tuple(logits.shape):
        raise InvalidValue(f"label distributions {tuple(q.shape)} must have the logits' shape {tuple(logits.shape)}.")
    half = any(marked(x) or str(x.dtype).endswith(_HALVES) for x in (as_array(given), q))
    within, found = _SUM_OF_HALVES if half else _SUM, xp.astype(q, logits.dtype)
    sums, lowest = xp.sum(found, axis=1), xp.min(found, axis=1)
    bad = (lowest < 0) | (xp.abs(sums - 1) > within * 1.001)  # a NaN passes both tests, and stays NaN
    if not on_host(q):
        return xp.where(bad[:, None], xp.full_like(found, xp.nan), found)
    if bool(xp.any(bad)):
        i = int(xp.argmax(xp.astype(bad, xp.int8)))
        what = f"has the value {float(lowest[i]):g}" if float(lowest[i]) < 0 else f"sums to {float(sums[i]):g}"
        raise InvalidValue(
            f"the label row at position {i} {what}: a distribution over classes is >= 0 and sums to 1 within {within:g}. Labels "
            "of several classes at once and regression targets are none: leave the score out, or give the labels as classes, "
            "(batch,), or as distributions (labels / labels.sum(1))."
        )
    return found


@once
def _onehot(xp: Array, logits: Array, labels: Array) -> Array:
    classes = xp.arange(logits.shape[1], dtype=labels.dtype, device=array_api_compat.device(labels))
    return classes[None, :] == labels[:, None]


@once
def _pick(xp: Array, table: Array, labels: Array) -> Array:
    return xp.take_along_axis(table, labels[:, None], axis=1)[:, 0]


@once
def _largest(xp: Array, logits: Array) -> Array:
    """The largest logit of each sample, (batch, 1); NaN if one of its logits is NaN."""
    return xp.max(logits, axis=1, keepdims=True)


@once
def _softmax(xp: Array, logits: Array) -> tuple[Array, Array]:
    """The probabilities and their logarithms."""
    shifted = logits - _largest(xp, logits)
    powers = xp.exp(shifted)  # computed once, because this is the slowest operation here
    total = xp.sum(powers, axis=1, keepdims=True)
    return powers / total, shifted - xp.log(total)


def _valid(xp: Array, values: Array, valid: Array | None) -> Array:
    """The values as float32, NaN for samples that are not `valid` (None: all are)."""
    if valid is not None:
        values = xp.where(valid, values, xp.full_like(values, xp.nan))
    return _float32(xp, values)


def _float32(xp: Array, values: Array) -> Array:
    return values if values.dtype == xp.float32 else xp.astype(values, xp.float32)
