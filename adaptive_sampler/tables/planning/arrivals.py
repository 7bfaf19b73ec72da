"""Weighted draws as races: every line arrives after a time of its own, at the rate of its weight, and the first ones are in."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import draw, race, tally, weigh
from adaptive_sampler.kernels.splitmix import stream
from adaptive_sampler.tables.planning.fates import Visits, in_order
from adaptive_sampler.tables.planning.lines import AskedColumns, LineBatch, LineGroups
from adaptive_sampler.tables.planning.ranks import FoundKeys, LineCut, reaches

NEVER = int(np.float64(np.inf).view(np.uint64))  # as a rank key: the bits of a time are ordered as the time is


class LineWeights(NamedTuple):
    """How the scores of a group become weights, as `Draw` makes them.

    `mean`: of the scores, which is divided by; None: the weights are the scores. `equal`: all weights are 1.
    """

    mean: float | None
    floor: float
    equal: bool = False

    def of(self, scores: np.ndarray) -> np.ndarray:
        """(m,) float32 weights of (m,) float32 scores."""
        if self.equal:
            return np.ones(len(scores), np.float32)
        if self.mean is None:
            return np.ascontiguousarray(scores)
        return weigh.weigh(scores, self.mean, self.floor)


def by_group(groups: LineGroups | None, length: int) -> Iterator[tuple[Any, np.ndarray]]:
    """(label, positions of its lines) for each group among some lines; all lines are of the group None without groups."""
    if groups is None:
        yield None, np.arange(length)
        return
    order = np.argsort(groups.codes, kind="stable")
    borders = np.searchsorted(groups.codes[order], np.arange(len(groups.labels) + 1))
    for number, label in enumerate(groups.labels):
        if borders[number] < borders[number + 1]:
            yield label, order[borders[number] : borders[number + 1]]


@dataclass(frozen=True)
class ByArrival:
    """By when lines arrive; those that arrive at once by their hash, then by their name.

    `weights`: label of a group -> how lines become weights there; `key`: of the draw's random numbers; `again`: whether a line
    arrives again and again.
    """

    column: str
    group: str | None
    weights: dict[Any, LineWeights]
    key: int
    again: bool
    hashed: int = 64

    @property
    def scores(self) -> tuple[str, ...]:
        return (self.column,)

    def asked(self, asked: AskedColumns, fine: bool) -> AskedColumns:
        return asked._replace(scores=self.scores)

    def coarse(self, lines: LineBatch) -> None:
        return None

    def fine(self, lines: LineBatch, places: np.ndarray, high: int) -> FoundKeys:
        each = [FoundKeys(*(np.empty(0, kind) for kind in (np.uint64, np.uint64, np.int64)))]
        for label, own in by_group(lines.groups[self.group] if self.group else None, lines.length):
            each.append(self.of_group(lines, own, self.weights[label].of(lines.scores[self.column][own]), high))
        return FoundKeys(*(np.concatenate(part) for part in zip(*each, strict=True)))

    def of_group(self, lines: LineBatch, places: np.ndarray, weights: np.ndarray, high: int) -> FoundKeys:
        """The arrivals of the lines at `places`, which have these weights: up to `high` where they come again and again."""
        assert lines.names is not None
        start, names = stream(self.key, 0), lines.names.identity(places)
        if self.again:
            until = np.uint64(min(high + 1, NEVER)).view(np.float64)
            times, whose = _again(start, stream(self.key, 1), names, weights, until)
        else:
            times, whose = np.empty(len(places)), np.arange(len(places))
            race.arrivals(start, *names.names, weights, whose, times)
        keys = times.view(np.uint64)
        keys[keys >= np.uint64(NEVER)] = tally.UNRANKED
        return FoundKeys(keys, names.hashes(start, whose), places[whose])


def _again(start: Any, more: Any, names: Any, weights: np.ndarray, until: float) -> tuple[np.ndarray, np.ndarray]:
    """All arrivals before a time: when, and whose."""
    rows = np.arange(len(weights))
    room = m = len(weights) + 64
    while m >= room:
        room = 2 * m
        times, whose = np.empty(room), np.empty(room, np.int64)
        m = int(race.arrivals_before(start, more, *names.names, weights, rows, until, times, whose))
    return times[:m], whose[:m]


class GroupDraw(NamedTuple):
    """What a group's draw comes to. `cut`: the first arrival that is not in; None: all are.

    With replacement arrivals are counted until the time `until` before that, by the numbers of the `attempt`, unless it is 0;
    `mean`: of the weights, for those of an unbiased draw, else 0.
    """

    cut: LineCut | None
    until: float = 0.0
    attempt: int = 0
    mean: float = 0.0


@dataclass(frozen=True)
class DrawFate:
    """Visits the lines that arrive before the cut of their group, as often as they do."""

    ranks: ByArrival
    draws: dict[Any, GroupDraw]
    named: bool = True

    @property
    def scores(self) -> tuple[str, ...]:
        return self.ranks.scores

    @property
    def groups(self) -> tuple[str, ...]:
        return (self.ranks.group,) if self.ranks.group else ()

    @property
    def told(self) -> Any:
        draws = ((label, self.draws[label]) for label in in_order(self.draws))
        return [[label, one.cut and one.cut.told, *one[1:]] for label, one in draws]

    def visits(self, lines: LineBatch) -> Visits:
        repeats = np.zeros(lines.length, np.uint32)
        weights = np.ones(lines.length, np.float32) if any(draw.mean for draw in self.draws.values()) else None
        for label, places in by_group(lines.groups[self.ranks.group] if self.ranks.group else None, lines.length):
            own = self.ranks.weights[label].of(lines.scores[self.ranks.column][places])
            drawn = self.draws[label]
            repeats[places] = self._repeats(lines, places, own, drawn)
            if weights is not None:
                visited = repeats[places] > 0
                weights[places[visited]] = _unbiased(own[visited], drawn.mean)
        return Visits(repeats, weights)

    def _repeats(self, lines: LineBatch, places: np.ndarray, weights: np.ndarray, drawn: GroupDraw) -> np.ndarray:
        counted = np.zeros(len(places), np.uint32)
        if drawn.attempt:
            count_arrivals(lines, places, weights, self.ranks.key, drawn, counted)
            if drawn.cut is None:
                return counted
        cut = drawn.cut or LineCut(NEVER)
        arrivals = self.ranks.of_group(lines, places, weights, cut.key)
        late = reaches(arrivals, lines, np.zeros(len(arrivals.keys), np.int8), [cut])
        all_lines = np.bincount(arrivals.places[~late], minlength=lines.length)
        found: np.ndarray = counted + all_lines[places].astype(np.uint32)
        return found


def count_arrivals(
    lines: LineBatch, places: np.ndarray, weights: np.ndarray, key: int, drawn: GroupDraw, counts: np.ndarray
) -> int:
    """Count each line's arrivals until `drawn.until`, into (m,) uint32; returns their sum."""
    assert lines.names is not None
    starts = stream(key, drawn.attempt), stream(key, drawn.attempt + 1)
    return int(draw.poisson(*starts, *lines.names.identity(places).names, 0, weights, drawn.until, counts))


def _unbiased(weights: np.ndarray, mean: float) -> np.ndarray:
    """The loss weights of lines with these weights: 1 / (n · p)."""
    with np.errstate(over="ignore", divide="ignore"):
        found: np.ndarray = (np.float64(mean) / weights).astype(np.float32)
    if not np.isfinite(found).all():
        raise InvalidValue(
            f"a loss weight is {found[~np.isfinite(found)][0]}: a line with a weight near 0 was drawn. Set floor above 0."
        )
    return found


def arrived(time: float, weights: np.ndarray, counts: np.ndarray) -> float:
    """How many of the lines with these weights, `counts` of each, most likely have arrived before a time."""
    with np.errstate(over="ignore"):
        return float(-(np.expm1(-weights * min(time, 1e300)) * counts).sum())


def when(number: float, weights: np.ndarray, counts: np.ndarray) -> float:
    """The time before which so many of these lines most likely arrive; inf: never."""
    if number <= 0:
        return 0.0
    low, high = -400.0, 400.0  # of its natural logarithm
    for _ in range(36):  # to a relative 1e-8
        middle = (low + high) / 2
        if arrived(math.exp(middle), weights, counts) < number:
            low = middle
        else:
            high = middle
    return math.exp(high) if high < 399 else math.inf
