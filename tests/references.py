"""Slow, obvious twins of every kernel and score: the tests' oracles, written to be read."""

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

# --- shards


def window_order(n: int, window: int, key: int) -> list[int]:
    """The order in which 0 … n − 1 leave a shuffling buffer of `window`, drawn with splitmix64."""
    order, held = [], list(range(min(window, n)))
    state = key
    for out in range(n):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        bits = state
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) % 2**64
        bits ^= bits >> 31
        pick = int((bits >> 11) / 2**53 * len(held))
        order.append(held[pick])
        if out + window < n:
            held[pick] = out + window
        else:
            held[pick] = held[-1]
            held.pop()
    return order


def hash_keys(keys: list[bytes]) -> list[int]:
    """FNV-1a of each key."""
    hashes = []
    for key in keys:
        value = 0xCBF29CE484222325
        for byte in key:
            value = (value ^ byte) * 0x100000001B3 % 2**64
        hashes.append(value)
    return hashes


# --- selection, order and draws

GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
WORD = 1 << 64


def mix(x: int) -> int:
    """SplitMix64's finaliser."""
    x %= WORD
    x = (x ^ (x >> 30)) * MIX1 % WORD
    x = (x ^ (x >> 27)) * MIX2 % WORD
    return x ^ (x >> 31)


def numbered(start: int, i: int) -> int:
    """The i-th number of SplitMix64's sequence from `start`."""
    return mix(int(start) + i * GOLDEN)


def stream(key: int, use: int) -> int:
    return mix(key + (use + 1) * GOLDEN)


def uniform(start: int, i: int) -> float:
    return (numbered(start, i) >> 11) * 2.0**-53


def pack(kept: np.ndarray) -> np.ndarray:
    return np.packbits(kept, bitorder="little")


def rank_window(keys: np.ndarray, lo: int, hi: int, *, salt: int, ties: str) -> np.ndarray:
    """Sort everything that is not NaN by (key, tie) and keep the ranks in [lo, hi)."""
    rows = [row for row in range(len(keys)) if not math.isnan(keys[row])]
    start = mix(salt + 0x5E1EC7)
    tie = {row: numbered(start, row) if ties == "random" else row for row in rows}
    rows.sort(key=lambda row: (keys[row], tie[row]))
    kept = np.zeros(len(keys), bool)
    kept[rows[lo:hi]] = True
    return pack(kept)


def poisson_quantile(mean: float, u: float) -> int:
    p = end = math.exp(-mean)
    k = 0
    while u >= end and k < 64:
        k += 1
        p *= mean / k
        end += p
    return k


def poisson_counts(key: int, more_key: int, weights: np.ndarray, rate: float) -> list[int]:
    """A Poisson count for each row by inversion; a mean above 6 is a sum of parts of at most 6."""
    counts = []
    for row, weight in enumerate(weights):
        mean = float(weight) * rate
        count = poisson_quantile(min(mean, 6.0), uniform(key, row))
        j = 0
        while mean > 6:
            mean -= 6
            count += poisson_quantile(min(mean, 6.0), uniform(numbered(more_key, row), j))
            j += 1
        counts.append(count)
    return counts


def drawn_one_by_one(weights: np.ndarray, num_samples: int, *, key: int, block: int = 4096) -> np.ndarray:
    """Draw a block by its sum for each sample, then for each block, in turn, as many of its rows."""
    weights = weights.astype(np.float64)
    sums = np.add.reduceat(weights, np.arange(0, len(weights), block))
    ends = np.cumsum(sums)
    targets = np.array([uniform(stream(key, 0), i) for i in range(num_samples)]) * ends[-1]
    by_block = np.bincount(np.searchsorted(ends, targets, side="right"), minlength=len(sums))
    counts = np.zeros(len(weights), np.uint32)
    i = 0
    for b, num in enumerate(by_block):
        ends = np.cumsum(weights[b * block : (b + 1) * block])
        for _ in range(num):
            target = uniform(stream(key, 1), i) * ends[-1]
            counts[b * block + np.searchsorted(ends, target, side="right")] += 1
            i += 1
    return counts


def sample_without_replacement(weights: np.ndarray, k: int, *, key: int) -> np.ndarray:
    """Sort all rows that have a weight by their arrival time and keep the first k."""
    start = stream(key, 0)
    times = {
        row: -math.log(((numbered(start, row) >> 12) + 0.5) * 2.0**-52) / float(weight)
        for row, weight in enumerate(weights)
        if weight > 0
    }
    kept = np.zeros(len(weights), bool)
    kept[sorted(times, key=times.__getitem__)[:k]] = True
    return pack(kept)


def shuffle(entries: list[int], *, key: int, mean_bucket: int = 1 << 15) -> list[int]:
    """A random bucket for each entry, then Fisher-Yates inside each bucket."""
    buckets = 1 << min(16, ((max(len(entries), 1) - 1) // mean_bucket).bit_length())
    filled: list[list[int]] = [[] for _ in range(buckets)]
    for i, entry in enumerate(entries):
        word = numbered(stream(key, 0), i >> 2) >> (16 * (i & 3)) & 0xFFFF
        filled[word * buckets >> 16].append(entry)
    out: list[int] = []
    for some in filled:
        first = len(out)
        for i in range(len(some)):
            x = numbered(stream(key, 1), first + i)
            while (x >> 32) * (i + 1) % 2**32 < 2**32 % (i + 1):  # would favour some places: again
                x = numbered(x, 1)
            j = (x >> 32) * (i + 1) >> 32
            some[i], some[j] = some[j], some[i]
        out += some
    return out


def image(at: int, total: int, *, key: int, rounds: int = 8) -> int:
    """Where the keyed permutation of [0, total) takes `at`: a Feistel network on [0, a·b), walked until
    inside."""
    a = max(1, math.isqrt(total))
    b = -(-total // a)

    def number(half: int, round_key: int, span: int) -> int:
        x = (half + round_key) * 0x9E3779B1 % 2**32
        x ^= x >> 16
        x = (x ^ (round_key >> 32)) * 0x85EBCA77 % 2**32
        x ^= x >> 15
        return (x * 0xC2B2AE3D % 2**32) * span >> 32

    while True:
        left, right = divmod(at, b)
        for r in range(0, rounds, 2):
            left = (left + number(right, stream(key, 2 + r), a)) % a
            right = (right + number(left, stream(key, 3 + r), b)) % b
        at = left * b + right
        if at < total:
            return at


# -- measures, one sample at a time, in float64 ------------------------------------------------------------------------


def softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    powers = [math.exp(z - top) for z in logits]
    return [power / sum(powers) for power in powers]


def log_softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    return [z - top - math.log(sum(math.exp(other - top) for other in logits)) for z in logits]


def onehot(label: int, classes: int) -> list[float]:
    return [1.0 if k == label else 0.0 for k in range(classes)]


def el2n(logits: Sequence[float], label: int) -> float:
    return math.dist(softmax(logits), onehot(label, len(logits)))


def cross_entropy(logits: Sequence[float], label: int) -> float:
    return -log_softmax(logits)[label]


def margin(logits: Sequence[float], label: int) -> float:
    return logits[label] - max(z for k, z in enumerate(logits) if k != label)


def confidence(logits: Sequence[float], label: int) -> float:
    return softmax(logits)[label]


def entropy(logits: Sequence[float], label: int = 0) -> float:
    return -sum(p * math.log(p) for p in softmax(logits) if p > 0)


def incorrect(logits: Sequence[float], label: int) -> float:
    return float(logits.index(max(logits)) != label)


MEASURES = {
    "el2n": el2n,
    "cross_entropy": cross_entropy,
    "margin": margin,
    "confidence": confidence,
    "entropy": entropy,
    "incorrect": incorrect,
}

# -- folds: what one row's values, in order, become --------------------------------------------------------------------


def last(values: Sequence[float]) -> float:
    return values[-1]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def ema(values: Sequence[float], decay: float) -> float:
    value = values[0]
    for new in values[1:]:
        value = decay * value + (1 - decay) * new
    return value


def deviation(values: Sequence[float]) -> float:
    return math.sqrt(sum((value - mean(values)) ** 2 for value in values) / len(values))


def forgetting(wrong: Sequence[float], never_learned: str) -> float:
    """One run: `wrong` is 1 where the sample was wrong at a presentation."""
    if all(wrong):
        return {"inf": math.inf, "presentations": float(len(wrong)), "zero": 0.0}[never_learned]
    return float(sum(before == 0 and after == 1 for before, after in itertools.pairwise(wrong)))


# -- selection: sets of rows -------------------------------------------------------------------------------------------


def cut(share: float | int, n: int) -> int:
    """floor(f·n + ½), the fraction as it is written; counts as they are."""
    return share if isinstance(share, int) else math.floor(Fraction(str(share)) * n + Fraction(1, 2))


def ascending(scores: np.ndarray) -> list[int]:
    """The observed rows by score, ties by row."""
    return sorted((row for row in range(len(scores)) if not np.isnan(scores[row])), key=lambda row: (scores[row], row))


def prune(scores: np.ndarray, keep: float | int, order: str, ages: np.ndarray | None = None) -> set[int]:
    """Never observed first, then the oldest (`ages`: NaN where fresh), then the best."""
    kept, ranked, number = _first(scores, cut(keep, len(scores)), ages)
    return kept | set(ranked[len(ranked) - number :] if order == "highest" else ranked[:number])


def window(scores: np.ndarray, start: int, stop: int, ages: np.ndarray | None = None) -> set[int]:
    """As `prune`, with ranks `start` … `stop` − 1 of the ascending order; what comes first shortens the window."""
    kept, ranked, number = _first(scores, stop - start, ages)
    return kept | set(ranked[start : start + number])


def _first(scores: np.ndarray, budget: int, ages: np.ndarray | None) -> tuple[set[int], list[int], int]:
    """-> rows that come first, the others in ascending order, how many of the others to take."""
    unseen = {row for row in range(len(scores)) if np.isnan(scores[row])}
    number = max(budget - len(unseen), 0)
    old = [] if ages is None else [row for row in range(len(scores)) if not np.isnan(ages[row])]
    oldest = set(sorted(old, key=lambda row: -ages[row])[:number])  # type: ignore[index]
    ranked = [row for row in ascending(scores) if row not in oldest]
    return unseen | oldest, ranked, number - len(oldest)


def draw_probabilities(scores: np.ndarray, floor: float) -> np.ndarray:
    """p of each row: never observed counts as the mean of the others."""
    known = np.asarray(scores, np.float64)
    filled = np.where(np.isnan(known), np.nanmean(known), known)
    share = filled / filled.sum() if filled.sum() else np.full(len(filled), 1 / len(filled))
    probabilities: np.ndarray = (1 - floor) * share + floor / len(filled)
    return probabilities


def tie_counts(scores: np.ndarray, rows: Iterable[int]) -> dict[Any, int]:
    """How many of `rows` have each score: what a choice among ties leaves unchanged."""
    values, counts = np.unique(np.asarray(scores)[list(rows)], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


# --- gradients


def gradients_one_by_one(model, loss_fn, inputs, labels):  # type: ignore[no-untyped-def]
    """(batch, parameters): each sample's gradient by its own backward pass over the whole batch, in the model's mode."""
    import torch

    theta = [p for p in model.parameters() if p.requires_grad]
    losses = loss_fn(model(inputs), labels)
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, theta, retain_graph=True, allow_unused=True)
        rows.append(
            torch.cat(
                [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(theta, found, strict=True)]
            )
        )
    return torch.stack(rows)


def grand_one_by_one(model, loss_fn, inputs, labels):  # type: ignore[no-untyped-def]
    """(batch,) gradient norms in eval mode, every sample in a batch of its own."""
    import torch

    training = model.training
    model.eval()
    norms = [
        gradients_one_by_one(model, loss_fn, inputs[i : i + 1], labels[i : i + 1])[0].norm() for i in range(len(inputs))
    ]
    model.train(training)
    return torch.stack(norms)


def l2rw_two_steps(model, inputs, labels, clean_inputs, clean_labels, loss_fn, step=0.1):  # type: ignore[no-untyped-def]
    """L2RW's weights as the paper defines them: look ahead by ε, differentiate the clean loss by ε, rectify, normalise.

    The training pass draws its dropout masks from the generator as found; the clean pass from one seeded by its next draw.
    Run it under `sdpa_kernel(SDPBackend.MATH)`: flash attention has no second derivative.
    """
    import torch
    from torch.func import functional_call

    before = torch.get_rng_state()
    theta = {name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    losses = loss_fn(functional_call(model, {**theta, **buffers}, (inputs,)), labels)
    epsilon = torch.zeros_like(losses, requires_grad=True)
    slope = torch.autograd.grad((epsilon * losses).sum(), list(theta.values()), create_graph=True)
    ahead = {name: p - step * g for (name, p), g in zip(theta.items(), slope, strict=True)}
    torch.set_rng_state(before)
    torch.manual_seed(int(torch.randint(2**62, ())))
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    clean = loss_fn(functional_call(model, {**ahead, **buffers}, (clean_inputs,)), clean_labels).mean()
    (by_epsilon,) = torch.autograd.grad(clean, epsilon)
    torch.set_rng_state(before)
    kept = (-by_epsilon).clamp(min=0)
    return kept / kept.sum() if kept.sum() > 0 else kept


def influence_explicit(model, loss_fn, inputs, labels, clean_inputs, clean_labels, damping):  # type: ignore[no-untyped-def]
    """(n,) −(1/n) ⟨(H + damping·I)⁻¹ ∇L_clean, ∇ℓ_i⟩ with the Hessian written out."""
    import torch
    from torch.func import functional_call, hessian, jacrev

    named = dict(model.named_parameters())
    theta = torch.cat([p.detach().flatten() for p in named.values()])

    def losses(vector, x, y):  # type: ignore[no-untyped-def]
        parts = vector.split([p.numel() for p in named.values()])
        shaped = {name: part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)}
        return loss_fn(functional_call(model, shaped, (x,)), y)

    matrix = hessian(lambda v: losses(v, inputs, labels).mean())(theta)
    clean = jacrev(lambda v: losses(v, clean_inputs, clean_labels).mean())(theta)
    solved = torch.linalg.solve(matrix + damping * torch.eye(len(theta), dtype=theta.dtype), clean)
    return -(jacrev(lambda v: losses(v, inputs, labels))(theta) @ solved) / len(inputs)


def fit_logistic(inputs, labels, classes, decay, weights=None, start=None, inverse=None):  # type: ignore[no-untyped-def]
    """Minimum of (1/n) Σ w_i ℓ_i + decay/2·‖θ‖² over a linear layer with bias, by Newton steps in NumPy.

    `inputs` (n, features) float64, `labels` (n,) int; θ is (classes, features + 1), the bias last. Returns θ and the
    inverse of the last Hessian; given `inverse`, that of a near problem, no Hessian is made (slower steps, same minimum).
    """
    n = len(inputs)
    with_one = np.hstack([inputs, np.ones((n, 1))])
    weights = np.ones(n) if weights is None else weights
    hot = np.eye(classes)[labels]
    theta = np.zeros((classes, with_one.shape[1])) if start is None else start
    fixed = inverse
    for _ in range(500):
        logits = with_one @ theta.T
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        slope = ((p - hot) * weights[:, None]).T @ with_one / n + decay * theta
        if np.abs(slope).max() < 1e-11 and inverse is not None:
            break
        if fixed is None:
            blocks = np.einsum("nk,kl->nkl", p, np.eye(classes)) - np.einsum("nk,nl->nkl", p, p)
            curve = np.einsum("n,nkl,ni,nj->kilj", weights, blocks, with_one, with_one, optimize=True) / n
            inverse = np.linalg.inv(curve.reshape(theta.size, -1) + decay * np.eye(theta.size))
        theta = theta - (inverse @ slope.ravel()).reshape(theta.shape)
    return theta, inverse
