"""What the measures say of logits on the host, all in one pass: each row is read from memory once.

All sums leave the label's class out and are relative to the largest of the others: so none can overflow, and where the
label's probability is nearly 1 no digit is lost by a subtraction. They are float32 in lanes, a few terms to each, and float64
from there on. The order in which they are taken is the compiler's: another processor may give other last digits.
"""

import math

import numpy as np

from adaptive_sampler.kernels.exponential import LOWEST, LOWEST_64, log1p_64, power, power_64
from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import add, add_product, highest, larger, lent, transpose, wide

LOSS, EL2N, MARGIN, CONFIDENCE, INCORRECT, ENTROPY = LINES = range(6)
SIZE = len(LINES)
FEW = 256  # classes: below, a lane is a row, else it is a class
ROWS = 64  # that are finished together
LANES = 64
PART = 4096  # classes that are read together, and so lie in the nearest cache when they are read again
# Where the rows' numbers begin in `known` (6 · `ROWS`,): the label's logit, the largest other one, and sums over the others.
MINE, TOP, TOTAL, SQUARE, SPREAD = range(0, 5 * ROWS, ROWS)
ZERO = np.float32(0)


@kernel
def largest(part):
    """The largest of `part`, a NaN if there is one."""
    wide()
    top = part[0]
    for j in range(part.size):
        top = highest(part[j], top)
    return top


@kernel
def sums(part, top):
    """Sums of e^d, e^2d and d·e^d over each d = z − `top` <= 0; `top` is finite."""
    wide()
    total, square, spread = ZERO, ZERO, ZERO
    for j in range(part.size):
        d = larger(LOWEST, np.float32(part[j] - top))  # 0 · −inf is NaN
        e = power(d)
        total = add(total, e)
        square = add_product(square, e, e)
        spread = add_product(spread, e, d)
    return np.float64(total), np.float64(square), np.float64(spread)


@kernel
def rescale(shift, known, k):
    """Have the sums of row `k` be relative to a largest logit that is larger by −`shift`."""
    scale = math.exp(shift)
    if scale > 0:
        known[SPREAD + k] = scale * (known[SPREAD + k] + shift * known[TOTAL + k])
        known[TOTAL + k] *= scale
        known[SQUARE + k] *= scale * scale
    else:
        known[TOTAL + k] = known[SQUARE + k] = known[SPREAD + k] = 0


@kernel
def take(part, known, k):
    """Add what a part of row `k` says to what is `known` of the parts before it."""
    before = known[TOP + k]
    top = highest(np.float64(largest(part)), before)
    if not top <= before:  # NaN too
        known[TOP + k] = top
        if before > -np.inf:  # else there is nothing yet to scale
            rescale(before - top, known, k)
    if -np.inf < top < np.inf:
        total, square, spread = sums(part, part.dtype.type(top))
        known[TOTAL + k] += total
        known[SQUARE + k] += square
        known[SPREAD + k] += spread


@kernel
def lay(row, start, size, y, copy):
    """Copy logits `start` … `start + size` − 1 of a row into lanes, −inf in place of the label's, and as many as leave no lane
    over -> how many there are. Whole lanes are written: one element, read soon after with those beside it, would be waited for.
    """
    wide()
    own, whole = np.uint32(y - start), size // LANES * LANES
    part = row[start : start + whole]
    for j in range(part.size):
        copy[j] = -np.inf if np.uint32(j) == own else part[j]
    if whole == size:
        return size
    last, left = row[row.size - LANES :], size - whole  # what does not fill them is the end of the row
    for j in range(LANES):
        z = last[j] if row.size - LANES + j != y else -np.inf
        copy[whole + j] = z if j >= LANES - left else -np.inf
    return whole + LANES


@kernel
def many(row, y, copy, known, k):
    """Write into `known` what row `k`, of many classes, says; `copy`: `PART` logits to work with."""
    known[MINE + k], known[TOP + k] = row[y], -np.inf
    known[TOTAL + k] = known[SQUARE + k] = known[SPREAD + k] = 0
    for start in range(0, row.size, PART):
        part = row[start : start + PART]
        if part.size == PART and not start <= y < start + PART:
            take(part, known, k)
        else:
            filled = lay(row, start, part.size, y, copy)
            take(copy[:filled], known, k)


@kernel
def turn(rows, labels, columns):
    """Copy rows into columns. A row whose label is below 0 is not read."""
    some, classes = rows.shape  # 8 is a literal below, because with a name for it this takes five times as long
    for start in range(0, some, 8):
        stop = min(start + 8, some)
        whole = stop - start == 8
        for k in range(start, stop):
            whole &= labels[k] >= 0
        done = classes // 8 * 8 if whole else 0
        for j in range(0, done, 8):
            transpose(rows, start, j, columns)
        if 0 < done < classes:  # some columns are written again
            transpose(rows, start, classes - 8, columns)
            done = classes
        for k in range(start, stop):
            if labels[k] >= 0:
                for j in range(done, classes):
                    columns[j, k] = rows[k, j]


@kernel
def tops(columns, top):
    """Raise `top` (`ROWS`,) to the largest of each row, whose logits are `columns` (classes, `ROWS`); a NaN if there is one."""
    wide()
    whole = len(columns) // 4 * 4
    for j in range(0, whole, 4):  # four classes for each time that `top` is read and written; no loop is as fast
        for k in range(ROWS):
            first = highest(columns[j + 1, k], highest(columns[j, k], top[k]))
            top[k] = highest(columns[j + 3, k], highest(columns[j + 2, k], first))
    for j in range(whole, len(columns)):
        for k in range(ROWS):
            top[k] = highest(columns[j, k], top[k])


@kernel
def weighed(logit, top, total, square, spread):
    """The three sums of a row and what one more logit adds to each."""
    d = larger(LOWEST, np.float32(logit - top))  # 0 · −inf is NaN
    e = power(d)
    return total + e, add_product(square, e, e), add_product(spread, e, d)


@kernel
def add_up(columns, top, total, square, spread):
    """Add to the sums (`ROWS`,) of rows what their logits, `columns` (classes, `ROWS`), say, whose largest are `top`."""
    wide()
    whole = len(columns) // 4 * 4
    for j in range(0, whole, 4):  # as in `tops`
        for k in range(ROWS):
            t, a, b, c = top[k], total[k], square[k], spread[k]
            a, b, c = weighed(columns[j, k], t, a, b, c)
            a, b, c = weighed(columns[j + 1, k], t, a, b, c)
            a, b, c = weighed(columns[j + 2, k], t, a, b, c)
            total[k], square[k], spread[k] = weighed(columns[j + 3, k], t, a, b, c)
    for j in range(whole, len(columns)):
        for k in range(ROWS):
            total[k], square[k], spread[k] = weighed(columns[j, k], top[k], total[k], square[k], spread[k])


@kernel
def few(rows, labels, columns, added, known):
    """Write into `known` what rows of few classes say. `columns` (classes + 1, `ROWS`): logits to work with; `added`
    (3, `ROWS`) float32. A row whose label is below 0 is not read.
    """
    some, classes = rows.shape
    turn(rows, labels, columns)
    for k in range(some):
        y = labels[k]
        known[MINE + k] = rows[k, y] if y >= 0 else 0
        columns[max(y, 0), k] = -np.inf
    top, total, square, spread = columns[classes], added[0], added[1], added[2]
    for k in range(ROWS):
        top[k] = -np.inf
        total[k] = square[k] = spread[k] = 0
    tops(columns[:classes], top)
    add_up(columns[:classes], top, total, square, spread)
    for k in range(ROWS):
        known[TOP + k], known[TOTAL + k], known[SQUARE + k], known[SPREAD + k] = top[k], total[k], square[k], spread[k]


@kernel
def finish(known):
    """Put the rows' lines where what was `known` of them lies; `odd` mends those that are not so."""
    wide()
    for k in range(ROWS):
        total, square, spread = known[TOTAL + k], known[SQUARE + k], known[SPREAD + k]
        gap = known[MINE + k] - known[TOP + k]
        leads = gap >= 0
        less = power_64(
            larger(LOWEST_64, -abs(gap))
        )  # the smaller one of the label's power and the largest other one's
        scale = less if leads else 1.0
        own = 1.0 if leads else less
        whole = own + scale * total
        share = 1.0 / whole  # one division, which takes as long as ten products
        log = log1p_64(scale * total if leads else whole - 1.0)
        far = less * larger(-1e30, -abs(gap))  # 0 · −inf is NaN
        known[LOSS * ROWS + k] = log - (0.0 if leads else gap)
        known[EL2N * ROWS + k] = scale * math.sqrt(total * total + square) * share
        known[MARGIN * ROWS + k] = gap
        known[CONFIDENCE * ROWS + k] = own * share
        known[INCORRECT * ROWS + k] = 0.0 if leads else 1.0
        known[ENTROPY * ROWS + k] = log - (scale * spread + far * (total if leads else 1.0)) * share


@kernel
def odd(row, y, known, k):
    """Mend the lines of row `k`, whose label's logit is also the largest other one, or where one of the two is NaN or inf."""
    mine, top = np.float64(row[y]), -np.inf
    for j in range(row.size):
        if j != y:
            top = highest(np.float64(row[j]), top)
    lines = known[k::ROWS]
    lines[MARGIN] = mine - top
    lines[INCORRECT] = np.float64(top > mine)
    if mine == top:  # the first of equal logits is the prediction
        for j in range(y):
            if row[j] == mine:
                lines[INCORRECT] = 1
    if mine != mine or top != top:
        lines[:] = np.nan
    elif not -np.inf < max(mine, top) < np.inf:
        lines[LOSS] = lines[EL2N] = lines[CONFIDENCE] = lines[ENTROPY] = np.nan
    elif top == -np.inf:
        lines[LOSS] = lines[EL2N] = lines[ENTROPY] = 0
        lines[CONFIDENCE] = 1


@kernel
def finished(rows, labels, known, doubt):
    """Put the lines of `rows` where what was `known` of them lies. `doubt` (`ROWS`,): to work with."""
    for k in range(ROWS):
        doubt[k] = not (
            abs(known[MINE + k]) < np.inf and abs(known[TOP + k]) < np.inf and known[MINE + k] != known[TOP + k]
        )
    finish(known)
    for k in range(len(rows)):
        if labels[k] < 0:
            known[k::ROWS] = np.nan
        elif doubt[k]:
            odd(rows[k], labels[k], known, k)


@kernel
def write(logits, labels, lines, begin, found, known, doubt, copy, columns, added):
    """Write the `lines` into `found`; all labels are classes or below 0. The arrays after `found` are to work with."""
    logits, labels, lines, found, known = lent(logits), lent(labels), lent(lines), lent(found), lent(known)
    doubt, copy, columns, added = lent(doubt), lent(copy), lent(columns), lent(added)
    for start in range(0, len(logits), ROWS):
        rows, given = logits[start : start + ROWS], labels[start : start + ROWS]
        if len(columns):
            few(rows, given, columns, added, known)
        else:
            for k in range(len(rows)):
                if given[k] >= 0:
                    many(rows[k], given[k], copy, known, k)
        finished(rows, given, known, doubt)
        for line in range(len(lines)):
            own = known[lines[line] * ROWS : lines[line] * ROWS + len(rows)]
            into = found[line, begin + start : begin + start + len(rows)]
            for k in range(into.size):
                into[k] = own[k]


@kernel
def measure(logits, labels, lowest, lines, begin, found):
    """Write the `lines` into `found` (lines, rows), from `begin` on -> the position of the first label outside `lowest` …
    classes − 1, or -1.

    `logits` (batch, classes), `labels` (batch,): a label < 0 says that its row does not count: it is not read, and gets NaNs.
    """
    batch, classes = logits.shape
    for i in range(batch):
        if not lowest <= labels[i] < classes:
            return begin + i
    known, doubt = np.zeros(SIZE * ROWS), np.empty(ROWS, np.bool_)
    copy = np.empty(PART if classes >= FEW else 0, logits.dtype)
    columns, added = (
        np.empty((classes + 1 if classes < FEW else 0, ROWS), logits.dtype),
        np.empty((3, ROWS), np.float32),
    )
    write(logits, labels, lines, begin, found, known, doubt, copy, columns, added)
    return -1
