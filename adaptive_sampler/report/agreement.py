"""How far scores agree in their ranking of the rows: with each other, and now with what they were in older versions."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple, TypeVar

import numpy as np

from adaptive_sampler.errors import AdaptiveSamplerError, InvalidValue
from adaptive_sampler.ranking import stability
from adaptive_sampler.store import ScoreStore

T = TypeVar("T")

SAMPLED = 50_000  # rows that rankings are compared on; of more, a random part: ± 0.005 then
MOST_VERSIONS = 10  # that are read


class OldScores(NamedTuple):
    """A kept version of a store: its number, and the scores of the rows that it had, name -> (m,) float32."""

    number: int
    scores: dict[str, np.ndarray]


def evenly(items: Sequence[T], most: int) -> list[T]:
    """All of the items, or `most` of them in even steps, the first and the last among these."""
    return [items[at] for at in np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int))]


def sample(n: int) -> np.ndarray:
    """The rows that rankings are compared on, (m,) int64 ascending."""
    return np.arange(n) if n <= SAMPLED else np.sort(np.random.default_rng(0).choice(n, SAMPLED, replace=False))


def spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """The rank correlation of two scores of the same rows; None if they have fewer than two in common, or one value only."""
    try:
        found = stability(one, other).spearman
    except InvalidValue:
        return None
    return None if np.isnan(found) else found


def between_scores(store: ScoreStore, names: list[str]) -> list[dict[str, Any]]:
    """Each pair of scores, in both orders, and how far they agree: {"one", "other", "spearman"}."""
    rows = sample(len(store))
    scores = {name: store[name][rows] for name in names}
    found: dict[tuple[str, str], float | None] = {(name, name): 1.0 for name in names}
    for one, other in combinations(names, 2):
        found[one, other] = found[other, one] = spearman(scores[one], scores[other])
    return [{"one": a, "other": b, "spearman": found[a, b]} for a in names for b in names]


def versions(store: ScoreStore, names: list[str]) -> Iterator[OldScores]:
    """The kept versions of the store, the oldest first, or about `MOST_VERSIONS` of them in even steps; none that is damaged."""
    numbers = [version.version for version in store.versions()]
    for number in evenly(numbers, MOST_VERSIONS):
        try:
            with store.session.opener(ScoreStore.open, number)() as old:
                there = [name for name in names if name in old.names and old.observed(name)]
                yield OldScores(number, {name: np.array(old[name]) for name in there})
        except (AdaptiveSamplerError, OSError):  # one that cannot be read is no reason to show nothing of the new
            continue


def with_now(store: ScoreStore, found: list[OldScores]) -> list[dict[str, Any]]:
    """How far each score of each version agrees with that of now: {"version", "score", "spearman"}."""
    rows = sample(len(store))
    now = {name: store[name][rows] for name in store.names}
    lines = []
    for version in found:
        for name, old in version.scores.items():
            there = rows[rows < len(old)]
            agreed = spearman(old[there], now[name][: len(there)])
            lines.append({"version": version.number, "score": name, "spearman": agreed})
    return lines
