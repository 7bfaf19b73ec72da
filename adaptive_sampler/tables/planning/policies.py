"""From a policy to what becomes of each line: the passes that a policy needs, and the cuts that it makes of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import select
from adaptive_sampler.selection.base import cut, is_policy, numbers_by
from adaptive_sampler.selection.composed import Composed
from adaptive_sampler.selection.draw import Draw
from adaptive_sampler.selection.exclude import Exclude
from adaptive_sampler.selection.keep_all import KeepAll
from adaptive_sampler.selection.prune import Prune
from adaptive_sampler.selection.random_prune import RandomPrune
from adaptive_sampler.selection.threshold import Threshold
from adaptive_sampler.selection.upsample import Upsample
from adaptive_sampler.selection.window import Window
from adaptive_sampler.tables.names import column_of, column_of_own
from adaptive_sampler.tables.planning import passes
from adaptive_sampler.tables.planning.bins import ScoreBins, bins_for
from adaptive_sampler.tables.planning.draws import DrawnTable, drawn
from adaptive_sampler.tables.planning.fates import (
    AllFate,
    ComposedFate,
    Fate,
    KeptStretch,
    StretchFate,
    ThresholdFate,
    UpsampleFate,
    VisitCounts,
)
from adaptive_sampler.tables.planning.lines import AskedColumns, check_asked
from adaptive_sampler.tables.planning.partitions import Partitions
from adaptive_sampler.tables.planning.ranks import HALF, HIGHEST, ByHash, ByScore, LineCut, RankKeys
from adaptive_sampler.tables.planning.search import CutSearch, TableSearch


@dataclass(frozen=True)
class PlanningOf:
    """What a fate is found for: the table, its key, and the seed and the epoch of the plan."""

    table: Partitions
    key: str
    text: bool
    seed: int
    epoch: int

    def start(self, purpose: seeds.Purpose) -> int:
        """Where the sequence of hashes for one purpose starts."""
        return int(select.premix(seeds.key(self.seed, self.epoch, purpose)))

    def asked(self, group: str | None = None, scores: tuple[str, ...] = ()) -> AskedColumns:
        """The key, a column of groups, and columns of scores. Raises `InvalidValue` if the table does not have them."""
        asked = AskedColumns(scores, (group,) if group else (), self.key, self.text)
        check_asked(self.table.pieces, asked, self.table.columns)
        return asked


class PlannedFate(NamedTuple):
    """What becomes of lines, and how many are visited; None where that is to be counted by a pass of its own."""

    fate: Fate
    counts: VisitCounts | None = None


def planned(policy: Any, of: PlanningOf) -> tuple[Fate, VisitCounts]:
    """What becomes of lines by `policy`, and how many are visited. Raises as `plan_table`."""
    fate, counts = fate_of(policy, of)
    check_asked(of.table.pieces, AskedColumns(fate.scores, fate.groups, of.key, of.text), of.table.columns)
    return fate, counts or count_visits(fate, of.table, of.key, of.text)


def count_visits(fate: Fate, table: Partitions, key: str, text: bool) -> VisitCounts:
    """How many lines are visited, by a pass over the table."""
    columns = bool(fate.scores or fate.groups)
    asked = AskedColumns(fate.scores, fate.groups, key if fate.named or not columns else None, text)
    return table.run(passes.count_visits, (fate, asked), passes.merge_counts)


def fate_of(policy: Any, of: PlanningOf) -> PlannedFate:
    """What becomes of lines by `policy`. Raises `InvalidValue` for a policy that cannot plan a table."""
    for kind, make in _BY_POLICY.items():
        if type(policy) is kind:
            return make(policy, of)
    known = ", ".join(kind.__name__ for kind in _BY_POLICY)
    if not is_policy(policy):
        raise InvalidValue(f"policy={policy!r} is no policy: pass one of {known}, such as Prune(0.5, 'quality').")
    raise InvalidValue(
        f"{policy!r} cannot plan a table: only {known} can. For another policy make a store of the table "
        "(ScoreStore.from_table), and plan from that."
    )


def _keep_all(policy: KeepAll, of: PlanningOf) -> PlannedFate:
    return PlannedFate(AllFate())


def _threshold(policy: Threshold, of: PlanningOf) -> PlannedFate:
    _check_age(policy)
    column = column_of(policy.by)
    of.asked(scores=(column,))
    return PlannedFate(ThresholdFate(column, policy))


def _upsample(policy: Upsample, of: PlanningOf) -> PlannedFate:
    column = column_of(policy.by)
    of.asked(scores=(column,))
    return PlannedFate(UpsampleFate(column, int(policy.factor) + (policy.convention == "extra")))


def _composed(policy: Composed, of: PlanningOf) -> PlannedFate:
    return PlannedFate(ComposedFate(tuple(fate_of(part, of).fate for part in policy.parts)))


def _ranked(policy: Any, of: PlanningOf) -> PlannedFate:
    """A stretch of the ranking by a score."""
    _check_age(policy)
    _check_size(policy)
    if policy.ties == "row":
        raise InvalidValue(
            f"{policy!r}: ties='row' is not for tables, whose lines may lie in any order. Pass ties='random'."
        )
    group = _group(policy)
    ranks = ByScore(column_of(policy.by), of.start(seeds.Purpose.TIES))
    asked = of.asked(group, ranks.scores)
    bins = bins_for(of.table, ranks, asked)
    count = ranks.asked(asked, False)
    found = of.table.run(passes.count_groups, (ranks.column, bins, group, count), passes.merge_groups)
    ranked = found.counts.sum(axis=1)
    if not ranked.any():  # nobody has observed anything yet
        lines = int(found.lines.sum())
        return PlannedFate(AllFate(), VisitCounts(lines, lines, lines))
    windows = {}
    for label, place in found.labels.items():
        lines, seen = int(found.lines[place]), int(ranked[place])
        budget, start = policy.stretch(lines)
        number = max(budget - (lines - seen), 0)
        low = start(seen, number)
        windows[label] = (low, low + number)
    return _stretches(windows, found, bins, ranks, group, of, asked)


def _random(policy: RandomPrune, of: PlanningOf) -> PlannedFate:
    """Lines with the smallest hashes."""
    _check_size(policy)
    group = _group(policy)
    ranks = ByHash(of.start(seeds.Purpose.SHARE))
    asked = of.asked(group)
    count = asked._replace(key=None) if group else asked
    found = of.table.run(passes.count_groups, (None, None, group, count), passes.merge_groups)
    least = 1 if group else 0
    windows = {
        label: (0, cut({"keep": policy.keep}, int(found.lines[place]), least=least))
        for label, place in found.labels.items()
    }
    return _stretches(windows, found, None, ranks, group, of, asked)


def _stretches(
    windows: dict[Any, tuple[int, int]],
    found: passes.GroupCounts,
    bins: ScoreBins | None,
    ranks: RankKeys,
    group: str | None,
    of: PlanningOf,
    asked: AskedColumns,
) -> PlannedFate:
    """The stretch of each group's ranking from one rank up to before another: label -> (first rank, first rank after)."""
    search: dict[Any, tuple[CutSearch | None, CutSearch | None]] = {}
    borders = None if bins is None else bins.borders(found.bits)
    empty, rows = set(), 0
    for label, (low, high) in windows.items():
        place = found.labels[label]
        counts = found.lines[place : place + 1] if bins is None else found.counts[place]
        size = int(counts.sum())
        rows += int(found.lines[place]) - size + max(min(high, size) - low, 0)
        if low >= min(high, size):
            empty.add(label)
        else:
            ends = np.cumsum(counts)
            search[label] = _search(label, low, ends, borders), _search(label, high, ends, borders)
    wanted = [one for pair in search.values() for one in pair if one]
    TableSearch(of.table, ranks, group, asked).find(wanted, found.labels)
    stretches = {label: KeptStretch(_found(low), _found(high)) for label, (low, high) in search.items()}
    fate = StretchFate(ranks, group, stretches | {label: KeptStretch(empty=True) for label in empty})
    return PlannedFate(fate, VisitCounts(int(found.lines.sum()), rows, rows))


def _found(search: CutSearch | None) -> LineCut | None:
    return search.found if search else None


def _search(label: Any, rank: int, ends: np.ndarray, borders: np.ndarray | None) -> CutSearch | None:
    """The search for a rank, from how many lines there are up to each bin; None at an end of the ranking.

    borders: of the bins; None: there are none, as rank keys are halves of hashes.
    """
    if not 0 < rank < ends[-1]:
        return None
    if borders is None:
        return CutSearch(label, rank, 0, (1 << HALF) - 1, 0, int(ends[0]))
    place = int(np.searchsorted(ends, rank, side="right"))
    before = int(ends[place - 1]) if place else 0
    low, high = int(borders[place]) << HALF, min((int(borders[place + 1]) << HALF) - 1, HIGHEST)
    return CutSearch(label, rank, low, high, before, int(ends[place]) - before)


def _check_age(policy: Any) -> None:
    if policy.max_age is not None:
        raise InvalidValue(
            f"{policy!r}: a table does not say how old its scores are. Leave max_age out; or make a store of the table "
            "(ScoreStore.from_table), and plan from that."
        )


def _check_size(policy: Any) -> None:
    if getattr(policy, "size", None) is not None:  # Exclude has none
        raise InvalidValue(
            f"{policy!r}: shares of a table are of its lines, not of the units of a column. Leave size out; or make a store of "
            f"the table (ScoreStore.from_table(..., columns=[{policy.size!r}])), and plan from that."
        )


def _group(policy: Any) -> str | None:
    """The column of a policy's groups."""
    group = policy.per_group
    if getattr(policy, "per_class", None) is not None or not (group is None or isinstance(group, str)):
        raise InvalidValue(
            f"{policy!r}: labels that are an array have no lines in a table. Name a column of the table, per_group='source'."
        )
    return group and column_of_own(group)


def _draw(policy: Draw, of: PlanningOf) -> PlannedFate:
    group, column = _group(policy), column_of(policy.by)
    asked = of.asked(group, (column,))._replace(scores=())
    key = numbers_by(policy.by, seeds.Purpose.DRAW, epoch=of.epoch, seed=of.seed)
    fate, lines, samples = drawn(DrawnTable(policy, of.table, group, asked, column, key))
    if fate is None:
        return PlannedFate(AllFate(), VisitCounts(lines, lines, lines))
    if policy.replacement and policy.unbiased:
        return PlannedFate(fate)  # a loss weight that is not finite is told before there is a plan
    return PlannedFate(fate, VisitCounts(lines, None if policy.replacement and samples else samples, samples))


_BY_POLICY: dict[type, Callable[[Any, PlanningOf], PlannedFate]] = {
    KeepAll: _keep_all,
    RandomPrune: _random,
    Prune: _ranked,
    Window: _ranked,
    Exclude: _ranked,
    Threshold: _threshold,
    Upsample: _upsample,
    Draw: _draw,
    Composed: _composed,
}
