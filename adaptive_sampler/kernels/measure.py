"""What the measures say of logits on the host, all in one pass. The exponentials between the two kernels are NumPy's."""

import math

import numpy as np

from adaptive_sampler.kernels.jit import kernel

LOSS, EL2N, MARGIN, CONFIDENCE, INCORRECT = LINES = range(5)


@kernel
def shift(logits, shifted):
    """Each row of (batch, classes) less its largest; NaN where one of the row is."""
    for i in range(logits.shape[0]):
        largest = logits[i, 0]
        for j in range(1, logits.shape[1]):
            z = logits[i, j]
            if z > largest or z != z:
                largest = z
        for j in range(logits.shape[1]):
            shifted[i, j] = logits[i, j] - largest


@kernel
def measure(logits, shifted, powers, labels, found):
    """Write `found` (lines, batch) -> the position of the first label that is no class, or -1.

    `powers`: exp(shifted). Sums are float64, because a hundred classes would cost float32 two digits.
    """
    for i in range(logits.shape[0]):
        y = labels[i]
        if y < 0 or y >= logits.shape[1]:
            return i
        others, squares = 0.0, 0.0
        largest, first, known = -np.inf, 0, True
        for j in range(logits.shape[1]):
            z, power = np.float64(logits[i, j]), np.float64(powers[i, j])
            known &= z == z
            if j != y:
                others += power
                squares += power * power
                if z > largest:
                    largest, first = z, j
        mine, own = np.float64(logits[i, y]), np.float64(powers[i, y])
        total = others + own
        found[LOSS, i] = math.log(total) - shifted[i, y]
        found[EL2N, i] = math.sqrt(others * others + squares) / total
        found[MARGIN, i] = mine - largest if known else np.nan
        found[CONFIDENCE, i] = own / total
        found[INCORRECT, i] = np.float64(largest > mine or (largest == mine and first < y)) if known else np.nan
    return -1


@kernel
def entropy(shifted, powers, found):
    """Write the entropies into `found` (batch,); `powers`: exp(shifted)."""
    for i in range(shifted.shape[0]):
        total, spread = 0.0, 0.0
        for j in range(shifted.shape[1]):
            power = np.float64(powers[i, j])
            total += power
            if power != 0:  # 0 · log 0 is 0
                spread += power * shifted[i, j]
        found[i] = math.log(total) - spread / total
