"""Where a plan cuts a score, where the page's sliders begin, and the numbers from which they show what would stay."""

from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.plan import Plan
from adaptive_sampler.report.charts import Rows
from adaptive_sampler.report.classes import RowClasses
from adaptive_sampler.report.ordering import STEPS, Ordered
from adaptive_sampler.report.plans import parts


class Stretch(NamedTuple):
    """A score, and the share that is kept of it above an offset, both in percent."""

    by: str
    keep: int
    offset: int


def of_plan(plan: Plan | None, ordered: dict[str, Ordered]) -> Stretch:
    """What the plan keeps if it is a stretch of one ranking, else the highest half by its score, or by the first one."""
    by = next(iter(ordered))
    for part in parts(plan) if plan else ():
        if part.get("by") not in ordered:
            continue
        by = part["by"]
        keep, offset = (_percent(part.get(name, 0), plan.n if plan else 1) for name in ("keep", "offset"))
        if keep and part["kind"] == "Prune":
            return Stretch(by, keep, 0 if part["order"] == "lowest" else STEPS - keep)
        if keep and part["kind"] == "Window":
            return Stretch(by, keep, min(offset, STEPS - keep))
    return Stretch(by, STEPS // 2, STEPS // 2)


def _percent(share: Any, n: int) -> int:
    """A share of `n` rows, as fraction or number, as a step of the sliders; 0 for a schedule."""
    if isinstance(share, bool) or not isinstance(share, (int, float)):
        return 0
    return min(STEPS, round(STEPS * (share if isinstance(share, float) else share / n)))


def of_score(one: Ordered, visited: np.ndarray) -> list[float]:
    """The scores at which a plan cuts: where it keeps all rows on one side and none on the other. `visited`: (n,) bool.

    Empty for a plan that has no such place: of other scores, of classes or draws, or of scores that have changed since.
    """
    kept = visited[one.rows]
    inside = np.flatnonzero(kept)
    if not len(inside) or len(inside) == len(kept) or not kept[inside[0] : inside[-1] + 1].all():
        return []
    first, last = int(inside[0]), int(inside[-1])
    places = [first] * (first > 0) + [last] * (last < len(kept) - 1)
    return [float(one.scores[at]) for at in places if np.isfinite(one.scores[at])]


def bins(one: Ordered, visited: np.ndarray | None) -> Rows:
    """The bins of the histogram: {"lo", "hi", "all", "kept"}. Those at both ends hold what is beyond."""
    edges = one.edges()
    stops = _ranks(one, edges)
    kept = np.zeros(len(one.rows) + 1, np.int64)
    if visited is not None:
        kept[1:] = np.cumsum(visited[one.rows])
    return [
        {**_side(edges, i), "all": int(stops[i + 1] - stops[i]), "kept": int(kept[stops[i + 1]] - kept[stops[i]])}
        for i in range(len(edges) - 1)
    ]


def trial_bins(ordered: dict[str, Ordered]) -> Rows:
    """The bins of all scores with the ranks at which they begin and end: {"score", "lo", "hi", "first", "last"}."""
    found = []
    for name, one in ordered.items():
        edges = one.edges()
        stops = _ranks(one, edges)
        found += [
            {"score": name, **_side(edges, i), "first": int(stops[i]), "last": int(stops[i + 1])}
            for i in range(len(edges) - 1)
        ]
    return found


def facts(ordered: dict[str, Ordered], chosen: Stretch) -> dict[str, Any]:
    """What the charts with sliders compute from: for each score and each step, the ranks at which a cut begins and ends."""
    scores = {}
    for name, one in ordered.items():
        ends, last = one.ends(), len(one.rows) - 1
        scores[name] = {
            **{which: ranks.tolist() for which, ranks in ends._asdict().items()},
            "unseen": one.unobserved,
            "at": [f"{score:.4g}" for score in one.scores[np.minimum(ends.low, last)]],
            "to": [f"{score:.4g}" for score in one.scores[np.clip(ends.high - 1, 0, last)]],
            "quoted": repr(name),
        }
    first = next(iter(ordered.values()))
    return {"n": first.n, "scores": scores, **chosen._asdict()}


def trial_classes(ordered: dict[str, Ordered], classes: RowClasses) -> Rows:
    """What `charts.trial_classes` draws."""
    number = len(classes.names)
    found: Rows = [
        {"class": name, "of": int(size), "unseen": {}, "low": {}, "high": {}, "top": {}}
        for name, size in zip(classes.names, classes.sizes, strict=True)
    ]
    for name, one in ordered.items():
        seen = np.bincount(classes.members[one.rows], minlength=number)
        counted = one.before(classes.members, number)._asdict()
        for i, line in enumerate(found):
            for which, counts in counted.items():
                line[which][name] = counts[i].tolist()
            line["unseen"][name] = int(classes.sizes[i] - seen[i])
    return found


def _ranks(one: Ordered, edges: np.ndarray) -> np.ndarray:
    """The rank at which each bin begins, and that at which the last one ends; infinite scores are in none."""
    inner = np.searchsorted(one.scores, edges[1:-1].astype(np.float64))
    begin = np.searchsorted(one.scores, -np.inf, "right")
    return np.concatenate([[begin], inner, [np.searchsorted(one.scores, np.inf)]])


def _side(edges: np.ndarray, i: int) -> dict[str, float]:
    return {"lo": float(f"{edges[i]:.6g}"), "hi": float(f"{edges[i + 1]:.6g}")}
