"""What the measures say of logits of many classes, such as a language model's words: a row is read from memory once.

The exponentials are these loops' own, because a processor takes eight at a time where the loop has no call in it. All sums
leave the label's class out and are relative to the largest of the others: so none can overflow, and where the label's
probability is nearly 1 no digit is lost by a subtraction.
"""

import math

import numpy as np

from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.llvm import bits_of_float32, float32_of, larger, multiply_add

LOSS, EL2N, MARGIN, CONFIDENCE, INCORRECT, ENTROPY = LINES = range(6)  # the first five are those of measure.py
LANES = (
    512  # sums that grow side by side: 32,000 classes are 63 terms of each, which float32 adds without losing digits
)
FEW_LANES = 64
TWO, THREE, FOUR = 2 * LANES, 3 * LANES, 4 * LANES

# e^d = 2^n · e^r, where n is the nearest integer to d / ln 2, and e^r = 1 + r + r²·(C2 + C3·r + … + C6·r⁴), |r| ≤ ln 2 / 2,
# whose largest relative error is 4.4e-9 (coefficients: weighted least squares, reweighted until all extremes are alike)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.442695), np.float32(0.693359375), np.float32(-2.1219444e-4)
C2, C3, C4 = np.float32(0.49999994), np.float32(0.1666652), np.float32(0.041668393)
C5, C6 = np.float32(0.008368781), np.float32(0.0013814467)
ROUND = np.float32(3 << 22)  # a float32 of this size has no place behind the point: adding it rounds
EXPONENT, BIAS = np.uint32(23), np.uint32(127 << 23)
LOWEST = np.float32(-87.25)  # what is e^87 times as unlikely as the likeliest counts as 0
ZERO, ONE = np.float32(0), np.float32(1)


@kernel
def power(d):
    """e^d of a float32 from LOWEST to 0; NaN of a NaN."""
    n = multiply_add(d, LOG2_E, ROUND)
    whole = n - ROUND
    r = multiply_add(-whole, LN2_LOW, multiply_add(-whole, LN2_HIGH, d))
    p = multiply_add(multiply_add(multiply_add(multiply_add(C6, r, C5), r, C4), r, C3), r, C2)
    return (multiply_add(p, r * r, r) + ONE) * float32_of(np.uint32((bits_of_float32(n) << EXPONENT) + BIAS))


@kernel
def largest_of(part, lanes, width):
    """The largest of `part`, −inf of nothing; NaNs are passed over. `width`, a power of 2: how many `lanes` there are."""
    lanes[:] = -np.inf
    done = len(part) - len(part) % FOUR if width == LANES else 0
    for j in range(0, done, FOUR):  # four at a time, because each is one look at the lanes
        a, b, c, d = part[j:], part[j + LANES :], part[j + TWO :], part[j + THREE :]
        for k in range(LANES):
            lanes[k] = larger(d[k], larger(c[k], larger(b[k], larger(a[k], lanes[k]))))
    for j in range(done, len(part), width):
        some = part[j : j + width]
        for k in range(len(some)):
            lanes[k] = larger(some[k], lanes[k])
    while width > 1:
        width //= 2
        for k in range(width):
            lanes[k] = larger(lanes[k + width], lanes[k])
    return lanes[0]


@kernel
def add_powers(part, top, sums, squares, spreads):
    """Add e^d, e^2d and d·e^d of each d = z − `top` <= 0 to the lanes of three arrays; `top` is finite."""
    width = len(sums)
    done = len(part) - len(part) % TWO if width == LANES else 0
    for j in range(0, done, TWO):
        a, b = part[j:], part[j + LANES :]
        for k in range(LANES):
            c, d = np.float32(a[k] - top), np.float32(b[k] - top)
            e = ZERO if c < LOWEST else power(c)
            f = ZERO if d < LOWEST else power(d)
            c, d = larger(LOWEST, c), larger(LOWEST, d)  # 0 · −inf is NaN
            sums[k] += e + f
            squares[k] = multiply_add(e, e, multiply_add(f, f, squares[k]))
            spreads[k] = multiply_add(e, c, multiply_add(f, d, spreads[k]))
    for j in range(done, len(part), width):
        some = part[j : j + width]
        for k in range(len(some)):
            d = np.float32(some[k] - top)
            e = ZERO if d < LOWEST else power(d)
            sums[k] += e
            squares[k] = multiply_add(e, e, squares[k])
            spreads[k] = multiply_add(e, larger(LOWEST, d), spreads[k])


@kernel
def any_nan(row):
    """Whether a logit is a NaN: asked only of rows whose sums do not tell."""
    found = False
    for j in range(len(row)):
        found |= row[j] != row[j]
    return found


@kernel
def write(found, i, mine, top, total, square, spread):
    """Write line by line what a row says.

    `mine`, `top`: the label's logit, and the largest other one. `total`, `square`, `spread`: of the others, relative to it.
    """
    largest = max(mine, top)
    own, scale = math.exp(mine - largest), math.exp(top - largest)
    everything = own + scale * total
    log = math.log1p(scale * total) if mine >= top else math.log(everything)
    moment = scale * (spread + (top - largest) * total) if scale > 0 else 0.0
    moment += own * (mine - largest) if own > 0 else 0.0
    found[LOSS, i] = log - (mine - largest)
    found[EL2N, i] = scale * math.sqrt(total * total + square) / everything
    found[CONFIDENCE, i] = own / everything
    found[ENTROPY, i] = log - moment / everything


@kernel
def measure(logits, labels, begin, found):
    """Write into `found` (lines, rows), from `begin` on -> the position of the first label above the classes, or -1.

    `logits` (batch, classes), `labels` (batch,): a label < 0 says that its row does not count: it is not read, and gets NaNs.
    """
    classes = logits.shape[1]
    width = FEW_LANES if classes < FOUR else LANES
    lanes = np.empty(width, logits.dtype)
    sums, squares, spreads = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(begin, begin + len(logits)):
        row, y = logits[i - begin], labels[i - begin]
        if y >= classes:
            return i
        found[:, i] = np.nan
        if y < 0:
            continue
        before, after = largest_of(row[:y], lanes, width), largest_of(row[y + 1 :], lanes, width)
        mine, top = np.float64(row[y]), np.float64(larger(after, before))
        total, square, spread = 0.0, 0.0, 0.0
        if -np.inf < top < np.inf:
            sums[:], squares[:], spreads[:] = 0, 0, 0
            add_powers(row[:y], larger(after, before), sums, squares, spreads)
            add_powers(row[y + 1 :], larger(after, before), sums, squares, spreads)
            for k in range(width):
                total += np.float64(sums[k])
                square += np.float64(squares[k])
                spread += np.float64(spreads[k])
        if mine != mine or total != total or (total == 0 and any_nan(row)):
            continue
        found[MARGIN, i] = mine - top
        found[INCORRECT, i] = np.float64((y > 0 and before >= row[y]) or after > row[y])
        if -np.inf < max(mine, top) < np.inf:
            write(found, i, mine, top, total, square, spread)
    return -1
