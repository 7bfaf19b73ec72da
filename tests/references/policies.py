"""Twins of the policies, by sorting everything."""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np


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


def per_class(labels: Sequence[Any], choose: Callable[[np.ndarray], set[int]]) -> set[int]:
    """What `choose` takes of the rows of each class, which it sees as rows 0, 1, …; given back as rows of all."""
    kept: set[int] = set()
    for label in set(labels):
        rows = [row for row in range(len(labels)) if labels[row] == label]
        kept |= {rows[i] for i in choose(np.array(rows))}
    return kept


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
