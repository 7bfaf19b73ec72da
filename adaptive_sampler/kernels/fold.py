"""Fold one batch of values into the columns of scores, in the order given, so that duplicates count in order."""

import numpy as np

from adaptive_sampler.kernels.jit import kernel

CORRECT, LEARNED = 1, 2  # bits of the forgetting state
LAST, MEAN, EMA, MAXIMUM, DEVIATION, TRANSITIONS = range(6)  # the rules that `fold` knows
MAGNITUDE, INFINITE = (
    np.uint32(0x7FFFFFFF),
    np.uint32(0x7F800000),
)  # of a float32's bits: all but the sign; those of inf
PRIMES = np.uint32(0x9E3779B1), np.uint32(0x85EBCA77)  # of xxHash32
BLOCK = 256  # rows whose records stay in the nearest cache until every score has been folded


@kernel
def first_bad(rows, n, values):
    """The position of the first row outside 0 … n - 1; else batch + the position, line by line, of the first NaN or inf in
    `values` (scores, batch); else -1.
    """
    given, unsigned = values.reshape(-1).view(np.uint32), rows.view(np.uint64)
    highest, widest = np.uint64(0), np.uint32(0)
    for i in range(unsigned.size):  # maxima, with no early way out: so it runs many rows at a time
        highest = max(highest, unsigned[i])  # a negative row is a large one
    for i in range(given.size):
        widest = max(widest, np.uint32(given[i] & MAGNITUDE))  # NaN and inf are wider than any number
    if rows.size and highest >= np.uint64(n):
        for i in range(rows.size):
            if unsigned[i] >= np.uint64(n):
                return i
    if widest >= INFINITE:
        for i in range(given.size):
            if given[i] & MAGNITUDE >= INFINITE:
                return rows.size + i
    return -1


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
        wrong = np.uint8(values[i] != 0)  # no branches: which way they go is hard to foresee
        events[r] += state[r] & CORRECT & wrong
        state[r] = (state[r] & LEARNED) | (np.uint8(1) - wrong) * np.uint8(CORRECT | LEARNED)
        presentations[r] += 1


@kernel
def observe(rows, epoch, ledger, before):
    """Count each row and note the epoch -> how many rows were new. `before`: how often each had been observed before."""
    new = 0
    for i in range(rows.size):
        r = rows[i]
        before[i] = ledger[r, 0]
        new += before[i] == 0
        ledger[r, 0] = before[i] + 1
        ledger[r, 1] = epoch
    return new


@kernel
def fold(rows, values, epoch, before, steps, decays, ledger, octets, shift, dirty):
    """Observe the rows and fold values (scores, batch) by the rule of each score -> how many rows were new; where
    `first_bad` finds something, nothing is folded, and it is −1 − what that says.

    A step is (rule, line of `values`, the word at which the score's columns begin). `ledger` (n, 8 or more bytes) begins
    with count and last_seen; `octets` has the scores' columns, a record a row. `dirty`: the chunks, of 2**shift rows, with
    a change.
    """
    bad = first_bad(rows, ledger.shape[0], values)
    if bad >= 0:
        return -1 - bad
    new, by, counts = 0, np.uint64(shift), ledger.view(np.uint32)
    words, floats = octets.view(np.uint32), octets.view(np.float32)
    unsigned = rows.view(np.uint64)  # which Numba need not ask whether it counts from the end
    for start in range(0, rows.size, BLOCK):
        stop = min(start + BLOCK, rows.size)
        some, earlier = unsigned[start:stop], before[start:stop]
        for i in range(
            some.size
        ):  # loads alone: many records are on their way at once, and near when they are written to
            earlier[i] = counts[some[i], 0]
        new += observe(some, epoch, counts, earlier)
        for i in range(some.size):
            dirty[some[i] >> by] = True
        for s in range(steps.shape[0]):
            rule, line, at = steps[s]
            value, given = floats[:, at], values[line, start:stop]
            if rule == LAST:
                last(some, given, value)
            elif rule == MEAN:
                mean(some, given, earlier, value)
            elif rule == EMA:
                ema(some, given, earlier, decays[s], value)
            elif rule == MAXIMUM:
                maximum(some, given, earlier, value)
            elif rule == DEVIATION:
                deviation(some, given, earlier, value, floats[:, at + 1])
            elif rule == TRANSITIONS:
                transitions(some, given, words[:, at], words[:, at + 1], octets[:, 4 * (at + 2)])
    return new


@kernel
def join(sent, values_sent, rank, size, rows_at, values_at, rows, values):
    """Copy pieces of updates, one behind the other, into `rows`, (m,), and `values`, (scores, m).

    Of each piece `rank`, `size`, `rows_at` and `values_at`, (pieces,), say where it is in `sent` and `values_sent`, (ranks, …):
    its values lie line by line.
    """
    done = 0
    for p in range(rank.size):
        own, first = values_sent[rank[p]], values_at[p]
        some = sent[rank[p]][rows_at[p] : rows_at[p] + size[p]]
        for i in range(some.size):
            rows[done + i] = some[i]
        for line in range(values.shape[0]):
            given, into = own[first : first + some.size], values[line, done : done + some.size]
            for i in range(some.size):
                into[i] = given[i]
            first += some.size
        done += some.size


@kernel
def take_visits(rows, left, mine):
    """Mark in `mine` which of `rows`, in the order given, are visits that are left, and take these from `left`, (n,).

    A row outside of `left` has none.
    """
    for i in range(rows.size):
        r = rows[i]
        mine[i] = 0 <= r < left.size and left[r] > 0
        if mine[i]:
            left[r] -= 1


@kernel
def mix_rows(words, lanes):
    """Mix rows of `lanes.size` words each, one row after another in `words`, uint32, into `lanes`: each word into the lane of its
    place, by a round of xxHash32. Rows of other words, or in another order, leave other lanes, as good as certainly.
    """
    first, second = PRIMES
    for start in range(0, words.size, lanes.size):
        row = words[start : start + lanes.size]
        for i in range(row.size):
            x = np.uint32(lanes[i] + np.uint32(row[i] * second))
            turned = np.uint32(np.uint32(x << np.uint32(13)) | np.uint32(x >> np.uint32(19)))
            lanes[i] = np.uint32(turned * first)
