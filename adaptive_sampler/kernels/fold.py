"""Fold one batch of values into the columns of a score, in the order given, so that duplicates count in order."""

import numpy as np

from adaptive_sampler.kernels.jit import kernel

CORRECT, LEARNED = 1, 2  # bits of the forgetting state


@kernel
def first_outside(rows, n):
    """The position of the first row outside 0 … n - 1, or -1."""
    for i in range(rows.size):
        if rows[i] < 0 or rows[i] >= n:
            return i
    return -1


@kernel
def first_nonfinite(values):
    """The position of the first NaN or inf, or -1."""
    for i in range(values.size):
        if not np.isfinite(values[i]):
            return i
    return -1


@kernel
def mark(rows, chunk, dirty):
    """Set `dirty[row // chunk]` for each row."""
    for i in range(rows.size):
        dirty[rows[i] // chunk] = True


@kernel
def last(rows, values, epoch, value, count, last_seen):
    for i in range(rows.size):
        r = rows[i]
        value[r] = values[i]
        count[r] += 1
        last_seen[r] = epoch


@kernel
def mean(rows, values, epoch, value, count, last_seen):
    for i in range(rows.size):
        r = rows[i]
        seen = count[r]
        if seen == 0:
            value[r] = values[i]
        else:
            old = np.float64(value[r])
            value[r] = old + (values[i] - old) / (seen + 1.0)
        count[r] = seen + 1
        last_seen[r] = epoch


@kernel
def ema(rows, values, epoch, decay, value, count, last_seen):
    for i in range(rows.size):
        r = rows[i]
        if count[r] == 0:
            value[r] = values[i]
        else:
            value[r] = decay * value[r] + (1.0 - decay) * values[i]
        count[r] += 1
        last_seen[r] = epoch


@kernel
def maximum(rows, values, epoch, value, count, last_seen):
    for i in range(rows.size):
        r = rows[i]
        if count[r] == 0 or values[i] > value[r]:
            value[r] = values[i]
        count[r] += 1
        last_seen[r] = epoch


@kernel
def deviation(rows, values, epoch, mean, m2, count, last_seen):
    """Welford's update: `m2` is the sum of squared deviations from the running mean."""
    for i in range(rows.size):
        r = rows[i]
        seen = count[r] + 1.0
        old = np.float64(mean[r])
        delta = values[i] - old
        new = old + delta / seen
        mean[r] = new
        m2[r] += delta * (values[i] - new)
        count[r] += 1
        last_seen[r] = epoch


@kernel
def transitions(rows, values, epoch, events, presentations, state, count, last_seen):
    """Count correct → wrong between consecutive presentations; `values` are 0 where correct."""
    for i in range(rows.size):
        r = rows[i]
        if values[i] == 0:
            state[r] = CORRECT | LEARNED
        else:
            if state[r] & CORRECT:
                events[r] += 1
            state[r] &= LEARNED
        presentations[r] += 1
        count[r] += 1
        last_seen[r] = epoch
