"""What becomes of a line: how often it is visited and with which loss weight, from the line and the plan's cuts alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import tally
from adaptive_sampler.plan import MOST_VISITS
from adaptive_sampler.selection.threshold import Threshold
from adaptive_sampler.tables.planning.lines import LineBatch
from adaptive_sampler.tables.planning.ranks import HALF, HIGHEST, LineCut, RankKeys, reaches, scores_of

NO_CODES = np.empty(0, np.int32)


class Visits(NamedTuple):
    """Of some lines: `repeats`, (lines,) unsigned or bool, how often each is visited; `weights`, (lines,) float, or None: 1."""

    repeats: np.ndarray
    weights: np.ndarray | None = None


@dataclass(frozen=True)
class VisitCounts:
    """Of some lines: how many there are, how many are visited, the visits in all; `parts`: lines that each part visits.

    `rows` is None where only a pass of its own would tell it, and it is one or more.
    """

    lines: int
    rows: int | None
    samples: int
    parts: tuple[int, ...] = ()

    def __add__(self, other: "VisitCounts") -> "VisitCounts":
        parts = tuple(a + b for a, b in zip(self.parts, other.parts, strict=True))
        rows = None if self.rows is None or other.rows is None else self.rows + other.rows
        return VisitCounts(self.lines + other.lines, rows, self.samples + other.samples, parts)


class Fate(Protocol):
    """Decides about lines. It can be pickled, and is small. The lines that it gets have the columns that it names."""

    @property
    def scores(self) -> tuple[str, ...]:
        """The columns with scores that it reads."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The columns with groups that it reads."""

    @property
    def named(self) -> bool:
        """Whether it reads the names of lines."""

    @property
    def told(self) -> Any:
        """What it decides by, as JSON data: equal for equal plans."""

    def visits(self, lines: LineBatch) -> Visits:
        """Of each line."""


class KeptStretch(NamedTuple):
    """The stretch of a group's ranking that is kept: from the line `low` up to before the line `high`; None: no such end.

    `empty`: no line is kept but those never observed.
    """

    low: LineCut | None = None
    high: LineCut | None = None
    empty: bool = False

    @property
    def ends(self) -> tuple[LineCut, LineCut]:
        """(the first line that is kept, the first after it that is not)."""
        if self.empty:
            return LineCut(HIGHEST), LineCut(0)
        return self.low or LineCut(0), self.high or LineCut(HIGHEST + 1)

    @property
    def cuts(self) -> list[LineCut]:
        """The ends that there are."""
        return [cut for cut in (self.low, self.high) if cut is not None]


@dataclass(frozen=True)
class StretchFate:
    """Keeps a stretch of each group's ranking, and the lines that have no rank.

    `group`: the column of groups or None; `stretches`: label -> what is kept of the group, None alone without groups.
    """

    ranks: RankKeys
    group: str | None
    stretches: dict[Any, KeptStretch]
    named: bool = True

    @property
    def scores(self) -> tuple[str, ...]:
        return self.ranks.scores

    @property
    def groups(self) -> tuple[str, ...]:
        return (self.group,) if self.group else ()

    @property
    def told(self) -> Any:
        return [[label, [end.told for end in self.stretches[label].ends]] for label in in_order(self.stretches)]

    def visits(self, lines: LineBatch) -> Visits:
        codes, labels = (NO_CODES, [None]) if self.group is None else lines.groups[self.group]
        lows, highs = zip(*(self.stretches[label].ends for label in labels), strict=True) if labels else ((), ())
        kept, places = self._by_score(lines, codes, lows, highs)
        if len(places):
            found = self.ranks.fine(lines, places, HIGHEST)
            own = codes[places] if len(codes) else np.zeros(len(places), np.int8)
            kept[places] = reaches(found, lines, own, lows) & ~reaches(found, lines, own, highs)
        return Visits(kept)

    def _by_score(
        self, lines: LineBatch, codes: np.ndarray, lows: Sequence[LineCut], highs: Sequence[LineCut]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is kept as far as scores tell, (lines,) bool, and the positions of the lines about which hashes decide."""
        kept = np.empty(lines.length, np.bool_)
        if not self.ranks.scores:
            return kept, np.arange(lines.length)
        raw = lines.scores[self.ranks.scores[0]].view(np.uint32)
        ends = [np.array([cut.key for cut in cuts], np.uint64) for cuts in (lows, highs)]
        doubtful = [np.array([cut.through_ties for cut in cuts], np.bool_) for cuts in (lows, highs)]
        places = np.empty(lines.length, np.int64)
        return kept, places[: tally.inside(raw, codes, *ends, *doubtful, kept, places)]


@dataclass(frozen=True)
class AllFate:
    """Visits every line once."""

    scores: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    named: bool = False
    told: Any = "all"

    def visits(self, lines: LineBatch) -> Visits:
        return Visits(np.ones(lines.length, np.bool_))


@dataclass(frozen=True)
class ThresholdFate:
    """Keeps the lines on one side of a value, and those never observed."""

    column: str
    policy: Threshold
    groups: tuple[str, ...] = ()
    named: bool = False

    @property
    def scores(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def told(self) -> Any:
        return [float(self.policy.value), self.policy.order]

    def visits(self, lines: LineBatch) -> Visits:
        return Visits(self.policy.keeps(lines.scores[self.column]))


@dataclass(frozen=True)
class UpsampleFate:
    """Visits lines whose score is above 0 `times` times, others once."""

    column: str
    times: int
    groups: tuple[str, ...] = ()
    named: bool = False

    @property
    def scores(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def told(self) -> Any:
        return self.times

    def visits(self, lines: LineBatch) -> Visits:
        return Visits(np.where(lines.scores[self.column] > 0, self.times, 1).astype(np.min_scalar_type(self.times)))


@dataclass(frozen=True)
class ComposedFate:
    """Visits the lines that all `parts` visit: visits and weights are the products of theirs, as in `Composed`."""

    parts: tuple[Fate, ...]

    @property
    def scores(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts for name in part.scores))

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts for name in part.groups))

    @property
    def named(self) -> bool:
        return any(part.named for part in self.parts)

    @property
    def told(self) -> Any:
        return [part.told for part in self.parts]

    def visits(self, lines: LineBatch) -> Visits:
        repeats, weights = np.ones(lines.length, np.uint64), None
        for part in self.parts:
            own = part.visits(lines)
            most = int(repeats.max(initial=0)) * int(own.repeats.max(initial=0))
            if most > MOST_VISITS:
                raise InvalidValue(f"rows would be visited up to {most} times in an epoch. Compose smaller factors.")
            repeats = repeats * own.repeats.astype(np.uint64)
            if own.weights is not None:
                weights = own.weights if weights is None else np.multiply(weights, own.weights, dtype=np.float64)
        with np.errstate(over="ignore"):
            return Visits(repeats, None if weights is None else weights.astype(np.float32))


def thresholds(stretches: dict[Any, KeptStretch]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Label -> the score at the group's cut, a pair of scores if it has two, None if none; and how many lines tie there."""
    scores = {
        label: scores_of(np.array([cut.key >> HALF for cut in stretch.cuts], np.int64)).tolist()
        for label, stretch in stretches.items()
    }
    ties = {label: [cut.ties for cut in stretch.cuts] for label, stretch in stretches.items()}
    return {label: _one(found) for label, found in scores.items()}, {
        label: _one(found) for label, found in ties.items()
    }


def _one(found: list[Any]) -> Any:
    return None if not found else found[0] if len(found) == 1 else tuple(found)


def in_order(labels: dict[Any, Any]) -> list[Any]:
    """The labels of groups, which may be of several types, in an order that does not depend on that of the lines."""
    return sorted(labels, key=lambda label: (str(type(label)), label)) if len(labels) > 1 else [*labels]
