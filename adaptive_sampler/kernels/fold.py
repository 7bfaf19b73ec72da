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
def observe(rows, epoch, chunk, count, last_seen, dirty):
    """Count each row and mark its chunk -> how often each had been observed before, duplicates in the batch included."""
    before = np.empty(rows.size, np.uint32)
    for i in range(rows.size):
        r = rows[i]
        before[i] = count[r]
        count[r] += 1
    for i in range(rows.size):
        last_seen[rows[i]] = epoch
    for i in range(rows.size):
        dirty[rows[i] // chunk] = True
    return before


@kernel
def last(rows, values, value):
    for i in range(rows.size):
        value[rows[i]] = values[i]


@kernel
def mean(rows, values, before, value):
    for i in range(rows.size):
        r = rows[i]
        old = np.float64(value[r]) if before[i] else 0.0
        value[r] = old + (values[i] - old) / (before[i] + 1.0)


@kernel
def ema(rows, values, before, decay, value):
    for i in range(rows.size):
        r = rows[i]
        value[r] = decay * value[r] + (1.0 - decay) * values[i] if before[i] else values[i]


@kernel
def maximum(rows, values, before, value):
    for i in range(rows.size):
        r = rows[i]
        if before[i] == 0 or values[i] > value[r]:
            value[r] = values[i]


@kernel
def deviation(rows, values, before, mean, m2):
    """Welford's update: `m2` is the sum of squared deviations from the running mean."""
    for i in range(rows.size):
        r = rows[i]
        old = np.float64(mean[r])
        delta = values[i] - old
        new = old + delta / (before[i] + 1.0)
        mean[r] = new
        m2[r] += delta * (values[i] - new)


@kernel
def transitions(rows, values, events, presentations, state):
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
