"""Twins of the measures and folds, on plain lists."""

import itertools
import math
from collections.abc import Sequence

# -- measures, one sample at a time, in float64 ------------------------------------------------------------------------


def softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    powers = [math.exp(z - top) for z in logits]
    total = sum(powers)
    return [power / total for power in powers]


def log_softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    log_total = math.log(sum(math.exp(z - top) for z in logits))
    return [z - top - log_total for z in logits]


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
    return -sum(p * math.log(p) for p in softmax(logits) if p != 0)


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

# -- folds: one row's values, in order, -> its score -------------------------------------------------------------------


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
    """Forgetting events of one run (Toneva et al. 2019). `wrong`: for each presentation, 1 if the sample was wrong."""
    if all(wrong):
        return {"inf": math.inf, "presentations": float(len(wrong)), "zero": 0.0}[never_learned]
    return float(sum(before == 0 and after == 1 for before, after in itertools.pairwise(wrong)))
