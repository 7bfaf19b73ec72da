"""What was kept of each class as time went on: by the plans that are saved, or as the scores of each version would have it."""

from typing import NamedTuple

import numpy as np

from adaptive_sampler.plan import Plan
from adaptive_sampler.report.agreement import OldScores, evenly
from adaptive_sampler.report.charts import Rows
from adaptive_sampler.report.classes import RowClasses
from adaptive_sampler.report.cuts import Stretch
from adaptive_sampler.report.ordering import STEPS, ranked
from adaptive_sampler.store import ScoreStore

_MOST = 10  # columns


class Told(NamedTuple):
    """`cells`: {"when", "class", "share"}; `words`: what they show."""

    cells: Rows
    words: str


def by_plans(plans: list[Plan], classes: RowClasses) -> Told:
    """Of each plan, or of about `_MOST` in even steps, the share of each class that it keeps."""
    shown = evenly(plans, _MOST)
    epochs = [plan.epoch for plan in shown]
    cells: Rows = []
    for plan in shown:
        when = f"epoch {plan.epoch}" if epochs.count(plan.epoch) == 1 else f"epoch {plan.epoch}, {plan.id[:4]}"
        visited = np.zeros(len(classes.members), np.bool_)
        visited[: plan.n] = plan.repeats > 0
        cells += _shares(when, visited, np.ones(len(visited), np.bool_), classes)
    return Told(cells, "The share of each class that the saved plans keep, epoch by epoch.")


def by_versions(store: ScoreStore, versions: list[OldScores], classes: RowClasses, chosen: Stretch) -> Told:
    """Of each version, the share of each class that the same cut keeps by the scores of then, of the rows that had one."""
    cells: Rows = []
    for version in versions:
        if chosen.by in version.scores:
            scores = version.scores[chosen.by]
            known = np.flatnonzero(~np.isnan(scores))
            rows = ranked(store, scores)
            first, last = (round(len(rows) * step / STEPS) for step in (chosen.offset, chosen.offset + chosen.keep))
            visited, there = np.zeros((2, len(classes.members)), np.bool_)
            visited[rows[first:last]], there[known] = True, True
            cells += _shares(f"version {version.number}", visited, there, classes)
    skipped = f" after the lowest {chosen.offset} %" if chosen.offset else " from the lowest on"
    return Told(
        cells,
        f"The share of each class that a cut by {chosen.by} (keep {chosen.keep} %{skipped}) keeps by the scores of each version.",
    )


def _shares(when: str, visited: np.ndarray, there: np.ndarray, classes: RowClasses) -> Rows:
    kept, all_ = classes.kept(visited), classes.kept(there)
    return [
        {"when": when, "class": name, "share": float(kept[i] / all_[i]) if all_[i] else None}
        for i, name in enumerate(classes.names)
    ]
