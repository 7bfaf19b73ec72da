"""How far a store's ranking agrees with itself, over its runs or its commits, and since when it stands still."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from adaptive_sampler import ranking
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection.base import Order, check_choice
from adaptive_sampler.store import ScoreStore


@dataclass(frozen=True)
class Steadiness:
    """How steady a ranking is.

    `spearman`, `kept`: the means, over the pairs that were compared, of their rank correlation and of the share of the kept rows
    that both keep. `settled`: since when the ranking is nearly the last one: an epoch, or the number of runs whose mean is enough;
    None if only the last one is like itself. `pairs`: each comparison, by the names of its two runs, or by its two epochs.
    """

    spearman: float
    kept: float
    settled: int | None
    pairs: Mapping[tuple[str, str] | tuple[int, int], ranking.Stability]


def stability(
    store: ScoreStore,
    by: str,
    *,
    across: Literal["runs", "commits"] = "runs",
    keep: float | int = 0.5,
    order: Order = "highest",
    correlation: float = 0.95,
) -> Steadiness:
    """Ask a store how steady its ranking by a score is: from run to run, or from commit to commit.

    `ranking.stability` compares any two rankings; this one knows which ones a store has.

    Args:
        store: one made with `runs="kept"`, across runs; one that keeps several committed versions, across commits.
        by: the name of the score.
        across: "runs" compares each run with each other one, and asks of how many runs the mean is nearly that of all.
            "commits" compares each committed epoch with the one before it, and asks from which epoch on the ranking is nearly
            the last one. What is not committed is not among them.
        keep: the share of the rows, as a float, or their number, that would be kept, as `Prune` does.
        order: which end is kept.
        correlation: the least rank correlation with the last ranking, in (0, 1], that counts as no change.

    Raises:
        InvalidValue: fewer than two runs, or two committed epochs, have observed the score; a store that does not keep its runs
            apart; and as `ranking.stability`. UnknownName: the store lacks the score.

    Source:
        Toneva et al. 2019, of forgetting between runs, and after 75 of 200 epochs; Paul et al. 2021: EL2N is a mean of 10 runs.
    """
    check_choice("across", across, ("runs", "commits"))
    rankings = _AcrossRuns(store, by) if across == "runs" else _AcrossCommits(store, by)
    if len(rankings.found) < 2:
        raise InvalidValue(
            f"{len(rankings.found)} {rankings.what} have observed {by!r}: two are needed. {rankings.remedy}"
        )
    pairs = {
        (a, b): ranking.stability(rankings.found[a], rankings.found[b], keep=keep, order=order)
        for a, b in rankings.pairs()
    }
    return Steadiness(
        float(np.mean([pair.spearman for pair in pairs.values()])),
        float(np.mean([pair.kept for pair in pairs.values()])),
        ranking.settled(rankings.times(), correlation=correlation),
        pairs,
    )


class _AcrossRuns:
    """Each run with each other one; in time, the mean of more and more of them."""

    what, remedy = "runs", "store.begin_run(name) begins one."

    def __init__(self, store: ScoreStore, by: str) -> None:
        self.found: dict[Any, np.ndarray] = ranking.runs(store, by)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        return itertools.combinations(self.found, 2)

    def times(self) -> Iterator[tuple[int, np.ndarray]]:
        return _means(self.found.values())


class _AcrossCommits:
    """Each committed epoch with the one before it."""

    what, remedy = "committed epochs", "Commit after each epoch, and let the versions stay: store.commit(keep=None)."

    def __init__(self, store: ScoreStore, by: str) -> None:
        found = dict(ranking.history(store, by))
        longest = max(map(len, found.values()), default=0)  # rows that came later were not observed before
        self.found: dict[Any, np.ndarray] = {
            epoch: np.pad(scores, (0, longest - len(scores)), constant_values=np.nan) for epoch, scores in found.items()
        }

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        return itertools.pairwise(self.found)

    def times(self) -> Iterator[tuple[int, np.ndarray]]:
        return iter(self.found.items())


def _means(runs: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """(k, the mean of the first k runs), (n,) float64, of what each of them observed; NaN for rows that none has."""
    total: Any = 0.0
    number: Any = 0
    for k, scores in enumerate(runs, 1):
        known = ~np.isnan(scores)
        total, number = total + np.where(known, scores, 0.0), number + known
        yield k, np.divide(total, number, out=np.full(len(scores), np.nan), where=number > 0)
