"""Slow, obvious twins of every kernel and score: the tests' oracles, written to be read."""

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

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
    """As `prune`, with ranks `start` … `stop` − 1 of the ascending order, moved down where the rest is shorter."""
    kept, ranked, number = _first(scores, stop - start, ages)
    low = min(start, len(ranked) - number)
    return kept | set(ranked[low : low + number])


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
