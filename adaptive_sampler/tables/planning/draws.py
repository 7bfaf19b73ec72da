"""From a `Draw` to what becomes of each line: sums of scores, then of weights, then the last arrival that is in."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import exact
from adaptive_sampler.selection.draw import Draw
from adaptive_sampler.tables.planning import passes
from adaptive_sampler.tables.planning.arrivals import (
    NEVER,
    ByArrival,
    DrawFate,
    GroupDraw,
    LineWeights,
    arrived,
    by_group,
    count_arrivals,
    when,
)
from adaptive_sampler.tables.planning.bins import ScoreBins, bins_for
from adaptive_sampler.tables.planning.engines import TableShare
from adaptive_sampler.tables.planning.fates import Fate
from adaptive_sampler.tables.planning.lines import AskedColumns, lines_of
from adaptive_sampler.tables.planning.partitions import Partitions
from adaptive_sampler.tables.planning.ranks import ByScore, scores_of
from adaptive_sampler.tables.planning.search import CutSearch, TableSearch, few


@dataclass
class ScoreSums:
    """Of the scores, or of the weights, of a group: how many there are, how many are above 0, and their exact sum."""

    known: int = 0
    positive: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(exact.EXPONENTS, np.int64))

    def add(self, values: np.ndarray) -> None:
        """Add (m,) float32 values, of which NaN is none."""
        self.known += exact.add(values, self.sums)
        self.positive += int(np.count_nonzero(values > 0))

    def merge(self, other: "ScoreSums") -> "ScoreSums":
        """Add those of other lines."""
        return ScoreSums(self.known + other.known, self.positive + other.positive, self.sums + other.sums)

    @property
    def mean(self) -> float:
        """Of the known values, rounded once."""
        return float(exact.total(self.sums) / self.known)

    @property
    def total(self) -> float:
        """Their sum, rounded once."""
        return float(exact.total(self.sums))


GroupSums = dict[Any, ScoreSums]


class DrawnTable(NamedTuple):
    """What a draw is made of: the policy, its table, its columns, the key of its random numbers."""

    policy: Draw
    table: Partitions
    group: str | None
    asked: AskedColumns
    column: str
    key: int


def drawn(of: DrawnTable) -> tuple[Fate | None, int, int]:
    """(fate, lines, samples); no fate if no line was observed yet."""
    bins = bins_for(of.table, ByScore(of.column, 0), of.asked)
    counts, sums = of.table.run(_survey, (of.column, bins, of.group, of.asked._replace(key=None)), _merge_surveys)
    lines = int(counts.lines.sum())
    if not any(one.known for one in sums.values()):
        return None, lines, lines
    weights = {label: _weights(of, label, one, int(counts.lines[counts.labels[label]])) for label, one in sums.items()}
    numbers = {label: of.policy.samples_of(int(counts.lines[counts.labels[label]])) for label in sums}
    ranks = ByArrival(of.column, of.group, weights, of.key, of.policy.replacement)
    if of.policy.replacement:
        draws = _with_replacement(of, ranks, counts, numbers)
    else:
        draws = _without_replacement(of, ranks, counts, bins, sums, numbers)
    return DrawFate(ranks, draws), lines, sum(numbers.values())


def _weights(of: DrawnTable, label: Any, sums: ScoreSums, lines: int) -> LineWeights:
    """How the scores of a group become weights."""
    floor, by = of.policy.floor, of.policy.by
    if sums.known and sums.positive == 0 and floor == 0:
        raise InvalidValue(
            f"every observed {by!r}{_whose(of, label)} is 0, so nothing can be drawn. Set floor above 0 to draw "
            "uniformly where there is nothing to choose by."
        )
    if sums.positive == 0:
        return LineWeights(None, floor, equal=True)
    if not of.policy.replacement and floor == 0 and sums.known == lines:
        return LineWeights(None, floor)
    return LineWeights(sums.mean, floor)


def _whose(of: DrawnTable, label: Any) -> str:
    """Of which group, for messages."""
    return f" of {of.group} {label!r}" if of.group else ""


def _without_replacement(
    of: DrawnTable,
    ranks: ByArrival,
    counts: passes.GroupCounts,
    bins: ScoreBins,
    sums: GroupSums,
    numbers: dict[Any, int],
) -> dict[Any, GroupDraw]:
    if any(one.mean is not None for one in ranks.weights.values()):
        sums = of.table.run(_sum_weights, (ranks, of.asked._replace(scores=(of.column,), key=None)), _merge_sums)
    borders = bins.borders(counts.bits)
    draws, searches = {}, {}
    for label, number in numbers.items():
        how = ranks.weights[label]
        place = counts.labels[label]
        positive = int(counts.lines[place]) if how.equal else sums[label].positive
        if number > positive:
            raise InvalidValue(
                f"num_samples={number} without replacement, but only {positive} rows{_whose(of, label)} have a positive "
                f"{of.policy.by!r}. Draw fewer, or set floor above 0."
            )
        draws[label] = GroupDraw(None)
        if number < positive:
            near, hope = _near(number, counts.counts[place], borders, how, int(counts.lines[place]))
            searches[label] = CutSearch(label, number, 0, NEVER - 1, 0, positive, near, hope=hope, uniform=False)
    TableSearch(of.table, ranks, of.group, of.asked).find([*searches.values()], counts.labels)
    return draws | {label: GroupDraw(search.found) for label, search in searches.items()}


def _near(
    number: int, counts: np.ndarray, borders: np.ndarray, how: LineWeights, lines: int
) -> tuple[tuple[int, int], float]:
    """The rank keys between which the last arrival most likely is, and how many lines arrive then, about."""
    bins = np.flatnonzero(counts)
    each = np.append(counts[bins], lines - int(counts.sum()))  # and of the lines that were never observed
    least, most = _weights_at(borders[bins], how), _weights_at(borders[bins + 1] - 1, how)
    slack = 8 * math.sqrt(lines) + 64
    low, high = when(number - slack, most, each), when(number + slack, least, each)
    hope = arrived(high, most, each) - arrived(low, least, each)
    return (_bits(low), min(_bits(high), NEVER - 1)), hope


def _weights_at(keys: np.ndarray, how: LineWeights) -> np.ndarray:
    """The weights of lines with these upper halves of rank keys, and behind them that of a line that was never observed."""
    most = float(np.finfo(np.float32).max)
    scores = np.nan_to_num(scores_of(keys), nan=most, posinf=most, neginf=0).clip(min=0)
    return np.append(how.of(scores.astype(np.float32)), np.float32(1)).astype(np.float64)


def _with_replacement(
    of: DrawnTable, ranks: ByArrival, counts: passes.GroupCounts, numbers: dict[Any, int]
) -> dict[Any, GroupDraw]:
    asked = of.asked._replace(scores=(of.column,))
    sums = of.table.run(_sum_weights, (ranks, asked._replace(key=None)), _merge_sums)
    totals = {label: one.total for label, one in sums.items()}
    draws: dict[Any, GroupDraw] = {}
    for label, number in numbers.items():
        lines = int(counts.lines[counts.labels[label]])
        until = (number - 5 * math.sqrt(number)) / totals[label] if number >= max(lines // 8, 1024) else 0.0
        mean = totals[label] / lines if of.policy.unbiased else 0.0
        draws[label] = GroupDraw(None, until, 2 if until else 0, mean)
    search = TableSearch(of.table, ranks, of.group, of.asked)
    # The same pass counts arrivals, and lists the first ones of those of which the last ones are then left to be found.
    likely = [_likely(label, numbers[label], draws[label], totals[label]) for label in counts.labels]
    likely = likely if few(likely) else []
    ask = {label: draw for label, draw in draws.items() if draw.attempt}
    counted, listed = dict.fromkeys(ask, 0), None
    if ask:
        within = search.within(likely, counts.labels)
        counted, listed = of.table.run(_arrive, (ranks, asked, ask, within), _merge_arrived)
    while ask := {label: draw for label, draw in ask.items() if counted[label] > numbers[label]}:
        # A sum that is too large says nothing of its parts.
        ask = {label: draw._replace(attempt=draw.attempt + 2) for label, draw in ask.items()}
        draws |= ask
        counted |= of.table.run(_arrive, (ranks, asked, ask, search.within([], counts.labels)), _merge_arrived)[0]
    left = {label: number - counted.get(label, 0) for label, number in numbers.items()}
    if listed is not None and likely:
        for one in likely:
            one.rank = left[one.group]
        search.take(listed, likely, counts.labels)
    found = {one.group: one for one in likely if one.found}
    searches = {k: found.get(k) or _arrival_search(k, left[k], totals[k]) for k in left if left[k]}
    search.find([*searches.values()], counts.labels)
    return draws | {label: draws[label]._replace(cut=one.found) for label, one in searches.items()}


def _likely(label: Any, number: int, draw: GroupDraw, total: float) -> CutSearch:
    """The search for a last arrival of which it is not known yet how many others come before it."""
    if not draw.attempt:
        return _arrival_search(label, number, total)
    k = math.ceil(12 * math.sqrt(number))  # nearly always fewer are left once those until `draw.until` are counted
    one = _arrival_search(label, k, total)
    one.near, one.hope = (0, _bits(k / total)), k
    return one


def _arrival_search(label: Any, k: int, total: float) -> CutSearch:
    """The search for the first arrival after k others, of arrivals at the rate `total` in all."""
    slack = 8 * math.sqrt(k) + 64
    near = _bits(max(k - slack, 0) / total), _bits((k + slack) / total)
    return CutSearch(label, k, 0, _bits((k + 4 * slack) / total), 0, k, near, hope=2 * slack, uniform=False)


def _bits(time: float) -> int:
    return int(np.float64(time).view(np.uint64))


# -- tasks --------------------------------------------------------------------------------------------------------------


def _survey(
    share: TableShare, column: str, bins: ScoreBins, group: str | None, asked: AskedColumns
) -> tuple[passes.GroupCounts, GroupSums]:
    """Counts of the scores by their bins, and the sums of the scores. Raises for one that is negative or infinite."""
    asked = asked._replace(scores=(column,))
    sums: GroupSums = {}
    counts = passes.GroupCounts()
    codes = passes.CodesOfLines(group, counts.places)
    for lines in lines_of(share.pieces, asked):
        scores = lines.scores[column]
        bad = np.flatnonzero((scores < 0) | np.isinf(scores))
        if len(bad):
            raise InvalidValue(
                f"{lines.place(int(bad[0]))}: {column!r} is {scores[bad[0]]}: a score to draw by "
                "must be finite and not negative. Draw by another score, or prune by this one."
            )
        for label, places in by_group(lines.groups[group] if group else None, lines.length):
            sums.setdefault(label, ScoreSums()).add(scores[places])
        passes.count_lines(counts, column, bins, codes.of(lines), lines)
    return counts, sums


def _merge_surveys(a: tuple[passes.GroupCounts, GroupSums], b: tuple[passes.GroupCounts, GroupSums]) -> Any:
    return passes.merge_groups(a[0], b[0]), _merge_sums(a[1], b[1])


def _sum_weights(share: TableShare, ranks: ByArrival, asked: AskedColumns) -> GroupSums:
    sums: GroupSums = {}
    for lines in lines_of(share.pieces, asked):
        for label, places in by_group(lines.groups[ranks.group] if ranks.group else None, lines.length):
            sums.setdefault(label, ScoreSums()).add(ranks.weights[label].of(lines.scores[ranks.column][places]))
    return sums


def _merge_sums(a: GroupSums, b: GroupSums) -> GroupSums:
    return a | {label: one.merge(a[label]) if label in a else one for label, one in b.items()}


def _arrive(
    share: TableShare, ranks: ByArrival, asked: AskedColumns, draws: dict[Any, GroupDraw], within: passes.Intervals
) -> tuple[dict[Any, int], passes.NearCuts]:
    """How many arrivals are counted in each of the groups of `draws`, and a list of those `within`."""
    found, listed = dict.fromkeys(draws, 0), within.nothing()
    codes = passes.CodesOfLines(ranks.group, within.places)
    for lines in lines_of(share.pieces, asked):
        for label, places in by_group(lines.groups[ranks.group] if ranks.group else None, lines.length):
            if label in draws:
                weights = ranks.weights[label].of(lines.scores[ranks.column][places])
                counts = np.empty(len(places), np.uint32)
                found[label] += count_arrivals(lines, places, weights, ranks.key, draws[label], counts)
        if len(within.lows):
            passes.list_lines(listed, ranks, codes.of(lines), lines, within)
    return found, listed


def _merge_arrived(
    a: tuple[dict[Any, int], passes.NearCuts], b: tuple[dict[Any, int], passes.NearCuts]
) -> tuple[dict[Any, int], passes.NearCuts]:
    return {label: a[0][label] + b[0][label] for label in a[0]}, passes.merge_near(a[1], b[1])
