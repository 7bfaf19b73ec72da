"""Everything that the page says and draws of a store, section by section, before it is laid out."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from adaptive_sampler.plan import Plan
from adaptive_sampler.report import agreement, charts, cuts, history, mapped, suspects
from adaptive_sampler.report.charts import Spec
from adaptive_sampler.report.classes import RowClasses
from adaptive_sampler.report.gallery import Gallery, Group
from adaptive_sampler.report.ordering import STEPS, Ordered, order
from adaptive_sampler.store import ScoreStore


@dataclass(frozen=True)
class Bars:
    """One of the histograms: `at`: its chart's place; `missing`: how many rows it cannot show; `cuts`: those of the plan."""

    at: str
    name: str
    missing: int
    cuts: list[str]


@dataclass(frozen=True, eq=False)
class Content:
    """What is shown of a store. `visited`: (n,) bool, the rows that the plan keeps; `predictions`: (n,)."""

    store: ScoreStore
    dataset: Any
    plan: Plan | None
    visited: np.ndarray | None
    classes: RowClasses | None
    predictions: np.ndarray | None

    @cached_property
    def ordered(self) -> dict[str, Ordered]:
        """The scores that have a finite value, each with its rows in order."""
        found = {name: order(self.store, name) for name in self.store.names if self.store.observed(name)}
        return {name: one for name, one in found.items() if len(one.finite)}

    @cached_property
    def chosen(self) -> cuts.Stretch:
        """Where the sliders begin."""
        return cuts.of_plan(self.plan, self.ordered)

    @cached_property
    def histograms(self) -> list[Bars]:
        """Those of all scores."""
        return [
            Bars(f"histogram-{i}", name, len(self.store) - len(one.finite), [f"{at:.4g}" for at in self._cuts(one)])
            for i, (name, one) in enumerate(self.ordered.items())
        ]

    @cached_property
    def versions(self) -> list[agreement.OldScores]:
        """The versions that are compared."""
        return list(agreement.versions(self.store, list(self.ordered))) if self.ordered else []

    @cached_property
    def stability(self) -> list[dict[str, Any]]:
        """How far the scores of each version agree with those of now."""
        return agreement.with_now(self.store, self.versions)

    @cached_property
    def history(self) -> history.Told | None:
        """What was kept of each class over time, where there are classes and a time."""
        if self.classes is None or not self.ordered:
            return None
        plans = [plan for plan in self.store.session.plans.in_order() if plan.n <= len(self.store)]
        if len(plans) > 1:
            return history.by_plans(plans, self.classes)
        told = history.by_versions(self.store, self.versions, self.classes, self.chosen)
        return told if told.cells else None

    @cached_property
    def suspects(self) -> suspects.Suspects | None:
        """The rows whose labels may be wrong."""
        labels = None if self.classes is None else self.classes.values
        return suspects.find(self.store, self.ordered, labels, self.predictions)

    @cached_property
    def gallery(self) -> dict[str, list[Group]]:
        """The samples of each score, those of the chosen one first."""
        labels = None if self.classes is None else self.classes.values
        made = Gallery(self.store, self.dataset, self.visited, labels, self.predictions)
        cut = {name: len(one.rows) // 2 for name, one in self.ordered.items()}
        if self.ordered:
            by, keep, offset = self.chosen
            ends = self.ordered[by].ends()
            cut[by] = int(
                ends.high[keep] if not offset else ends.top[keep] if offset + keep == STEPS else ends.low[offset]
            )
        first = {self.chosen.by: self.ordered[self.chosen.by]} if self.ordered else {}
        return made.groups(first | self.ordered, cut)

    @property
    def sampled(self) -> int:
        """On how many rows at random rankings are compared; 0 for all."""
        return agreement.SAMPLED if len(self.store) > agreement.SAMPLED else 0

    @cached_property
    def has_map(self) -> bool:
        """Whether both scores of the data map are there."""
        return {"confidence", "variability"} <= set(self.ordered)

    @cached_property
    def specs(self) -> dict[str, Spec]:
        """The charts, by the places that they go to."""
        found: dict[str, Spec] = {}
        if not self.ordered:
            return found
        facts = cuts.facts(self.ordered, self.chosen)
        found["trial-histogram"] = charts.trial_histogram(facts, cuts.trial_bins(self.ordered))
        planned = self.plan is not None
        if self.classes:
            lines = cuts.trial_classes(self.ordered, self.classes)
            found["trial-classes"] = charts.trial_classes(facts, lines)
        for shown in self.histograms:
            one = self.ordered[shown.name]
            found[shown.at] = charts.histogram(shown.name, cuts.bins(one, self.visited), self._cuts(one), planned)
        if self.has_map:
            found["data-map"] = charts.data_map(mapped.cells(self.store, self.visited), mapped.WORDS, planned)
        if len(self.ordered) > 1:
            pairs = agreement.between_scores(self.store, list(self.ordered))
            found["agreement"] = charts.agreement(pairs, len(self.ordered))
        if len(self.versions) > 1:
            found["stability"] = charts.stability(self.stability)
        if self.history and self.classes:
            found["history"] = charts.kept_over_time(self.history.cells, len(self.classes.names), self.history.words)
        return found

    def _cuts(self, one: Ordered) -> list[float]:
        return [] if self.visited is None else cuts.of_score(one, self.visited)
