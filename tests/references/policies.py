"""Twins of the selection policies, which sort all rows."""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np


def cut(share: float | int, n: int) -> int:
    """The number of rows: floor(f·n + ½) for a fraction f, taken as its decimal text; an int is taken as it is."""
    return share if isinstance(share, int) else math.floor(Fraction(str(share)) * n + Fraction(1, 2))


def ascending(scores: np.ndarray) -> list[int]:
    """The observed rows in ascending order of their scores, ties in order of the rows."""
    return sorted((row for row in range(len(scores)) if not np.isnan(scores[row])), key=lambda row: (scores[row], row))


def prune(
    scores: np.ndarray, keep: float | int, order: str, ages: np.ndarray | None = None, least: int = 0
) -> set[int]:
    """The kept rows, `least` at least: never observed rows first, then the oldest (`ages`: NaN for fresh rows), then the best."""
    kept, ranked, number = _first(scores, max(cut(keep, len(scores)), least), ages)
    return kept | set(ranked[len(ranked) - number :] if order == "highest" else ranked[:number])


def window(scores: np.ndarray, start: int, stop: int, ages: np.ndarray | None = None) -> set[int]:
    """As `prune`, with ranks start … stop − 1 of the ascending order. Rows that come first shorten the window's end."""
    kept, ranked, number = _first(scores, stop - start, ages)
    return kept | set(ranked[start : start + number])


def sized(ranked: Sequence[int], sizes: Sequence[int], start: int, stop: int) -> set[int]:
    """The rows, of those in the order `ranked`, whose first unit is one of start … stop − 1; a row of size 0 after the last unit
    lies with that."""
    units = [row for row in ranked for _ in range(sizes[row])]
    kept, at = set(), 0
    for row in ranked:
        if start <= min(at, len(units) - 1) < stop:
            kept.add(row)
        at += sizes[row]
    return kept


def sized_stretch(
    scores: np.ndarray,
    sizes: Sequence[int],
    shares: tuple[float | int, float | int],
    order: str,
    ages: np.ndarray | None = None,
) -> set[int]:
    """Rows of units: never observed ones, then the oldest ones, then a stretch of the ranking, as `sized` has it.

    `shares`: (offset, keep) of all units; `order`: "lowest" for that window, "highest" for `keep` at the end.
    """
    n, total = len(scores), sum(sizes)
    kept = {row for row in range(n) if np.isnan(scores[row])}
    offset = cut(shares[0], total)
    stop = (
        cut(float(Fraction(str(shares[0])) + Fraction(str(shares[1]))), total) if shares[0] else cut(shares[1], total)
    )
    left = max(stop - offset - sum(sizes[row] for row in kept), 0)
    if ages is not None:
        old = sorted((row for row in range(n) if not np.isnan(ages[row])), key=lambda row: (ages[row], row))
        units = sum(sizes[row] for row in old)
        oldest = sized(old, sizes, units - min(units, left), units)
        kept, left = kept | oldest, max(left - sum(sizes[row] for row in oldest), 0)
    ranked = [row for row in ascending(scores) if row not in kept]
    begin = sum(sizes[row] for row in ranked) - left if order == "highest" else offset
    return kept | sized(ranked, sizes, begin, begin + left)


def composed(parts: Sequence[dict[int, tuple[int, Any]]]) -> dict[int, tuple[int, Any]]:
    """Row -> (visits, loss weight) of what all `parts` visit, each given likewise: the products of theirs."""
    rows = set(parts[0]).intersection(*parts[1:])
    found = {}
    for row in rows:
        visits, weight = 1, 1.0
        for part in parts:
            visits, weight = visits * part[row][0], weight * float(part[row][1])
        found[row] = visits, np.float32(weight)
    return found


def per_class(labels: Sequence[Any], choose: Callable[[np.ndarray], set[int]]) -> set[int]:
    """The rows that `choose` takes in each class. It gets the class's rows, and returns positions among them."""
    kept: set[int] = set()
    for label in set(labels):
        rows = [row for row in range(len(labels)) if labels[row] == label]
        kept |= {rows[i] for i in choose(np.array(rows))}
    return kept


def _first(scores: np.ndarray, budget: int, ages: np.ndarray | None) -> tuple[set[int], list[int], int]:
    """Split the rows -> (those that come first, the others in ascending order of score, how many of these to take)."""
    unseen = {row for row in range(len(scores)) if np.isnan(scores[row])}
    number = max(budget - len(unseen), 0)
    old = [] if ages is None else [row for row in range(len(scores)) if not np.isnan(ages[row])]
    oldest = set(sorted(old, key=lambda row: -ages[row])[:number])  # type: ignore[index]  # `old` is empty if `ages` is None
    ranked = [row for row in ascending(scores) if row not in oldest]
    return unseen | oldest, ranked, number - len(oldest)


def draw_probabilities(scores: np.ndarray, floor: float) -> np.ndarray:
    """(n,) the probability of each row. A row that was never observed counts as the mean of the others."""
    known = np.asarray(scores, np.float64)
    filled = np.where(np.isnan(known), np.nanmean(known), known)
    share = filled / filled.sum() if filled.sum() else np.full(len(filled), 1 / len(filled))
    probabilities: np.ndarray = (1 - floor) * share + floor / len(filled)
    return probabilities


def tie_counts(scores: np.ndarray, rows: Iterable[int]) -> dict[Any, int]:
    """How many of `rows` have each score. A choice among ties does not change these counts."""
    values, counts = np.unique(np.asarray(scores)[list(rows)], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def focal(scores: Sequence[float], gamma: float) -> list[float]:
    """(1 − p)^γ, one after another."""
    return [(1 - p) ** gamma for p in scores]


def proportional(scores: Sequence[float], floor: float) -> list[float]:
    """(1 − floor)·s over the mean score, and the floor."""
    mean = math.fsum(scores) / len(scores)
    return [(1 - floor) * score / mean + floor for score in scores]


def exponential(scores: Sequence[float], temperature: float) -> list[float]:
    """m times the softmax of s / temperature."""
    top = max(score / temperature for score in scores)
    powers = [math.exp(score / temperature - top) for score in scores]
    return [len(scores) * power / math.fsum(powers) for power in powers]


def clip(values: Sequence[float], lowest: float, highest: float) -> list[float]:
    """The ends of the sorted values brought in: to the lowest and the highest that is left."""
    ordered, m = sorted(values), len(values)
    left = ordered[math.floor(Fraction(str(lowest)) * m) : m - math.floor(Fraction(str(highest)) * m)]
    return [min(max(value, left[0]), left[-1]) for value in values]


def strata(scores: Sequence[float], number: int) -> list[list[int]]:
    """The rows of each of so many strata of equal width over the finite scores; infinite ones lie in the first and last."""
    finite = [score for score in scores if math.isfinite(score)] or [0.0]
    low, high = min(finite), max(finite)
    scale = number / (high - low) if high > low else 1.0
    found: list[list[int]] = [[] for _ in range(number)]
    for row, score in enumerate(scores):
        if not math.isnan(score):
            place = (score - low) * scale
            found[0 if place < 0 else number - 1 if place >= number else int(place)].append(row)
    return found


def allocated(counts: Sequence[int], budget: int) -> list[int]:
    """Coverage-centric selection's allocation: from the smallest stratum on, an even part of what is left, or all it has."""
    given, left = [0] * len(counts), budget
    for dealt, k in enumerate(sorted(range(len(counts)), key=lambda k: counts[k])):
        given[k] = min(counts[k], left // (len(counts) - dealt))
        left -= given[k]
    return given


def group_dro(losses: Sequence[Sequence[float]], eta: float) -> list[float]:
    """q after one step for each of the epochs, in each of which every group has a loss: algorithm 1 of Sagawa et al. 2020."""
    q = [1 / len(losses[0])] * len(losses[0])
    for epoch in losses:
        q = [share * math.exp(eta * loss) for share, loss in zip(q, epoch, strict=True)]
        q = [share / math.fsum(q) for share in q]
    return q


def cvar(losses: Sequence[float], alpha: float) -> Fraction:
    """The mean of the worst share of losses, of which the last one may count in part."""
    left = share = Fraction(str(alpha)) * len(losses)
    total = Fraction(0)
    for loss in sorted(losses, reverse=True):
        total += min(left, 1) * Fraction(loss)
        left -= min(left, 1)
    return total / share


def facility_location(likeness: np.ndarray, weights: Sequence[float], number: int, ties: Sequence[int]) -> set[int]:
    """So many rows, one after another that with the largest gain in Σ weight · likeness to the likest chosen row; (n, n)."""
    chosen: set[int] = set()
    cover = np.zeros(len(weights))
    for _ in range(number):
        gains = {row: float(np.maximum(likeness[row] - cover, 0) @ weights) for row in range(len(weights))}
        best = min(gains.keys() - chosen, key=lambda row: (-round(gains[row], 9), ties[row]))
        chosen.add(best)
        cover = np.maximum(cover, likeness[best])
    return chosen
