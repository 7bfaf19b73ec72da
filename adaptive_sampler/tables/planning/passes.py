"""What one pass over a share of the table finds, as tasks that an engine calls, and how the findings are merged."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.kernels import tally
from adaptive_sampler.tables.planning.bins import MOST, ScoreBins
from adaptive_sampler.tables.planning.engines import TableShare
from adaptive_sampler.tables.planning.fates import Fate, VisitCounts
from adaptive_sampler.tables.planning.lines import AskedColumns, LineBatch, lines_of
from adaptive_sampler.tables.planning.ranks import RankKeys

CELLS = 1 << 18  # counts of a pass: 1 MiB, of which each thread holds two; more would not fit into a core's cache
FEWEST = 4  # bits that a pass tells apart at least
_MOST_COUNTED = (1 << 32) - 1  # lines, as uint32
NO_GROUPS, ONE_GROUP = np.empty(0, np.int32), np.zeros(1, np.int32)


def bits_for(rows: int) -> int:
    """How many bits can be told apart for each of so many groups or cuts, so that there are `CELLS` counts at most."""
    return max(FEWEST, min(MOST, (CELLS // max(rows, 1)).bit_length() - 1))


class LineCodes(NamedTuple):
    """The groups of some lines. `codes`: (lines,) integers, or empty: all are 0; `groups`: (codes,) int32, that of each code."""

    codes: np.ndarray
    groups: np.ndarray

    def at(self, places: np.ndarray) -> "LineCodes":
        """Of some of the lines."""
        return self._replace(codes=self.codes[places]) if len(self.codes) else self

    @property
    def each(self) -> np.ndarray:
        """The group of each line; empty where all are of one."""
        found: np.ndarray = self.groups[self.codes]
        return found


class CodesOfLines:
    """The groups of lines by what a pass numbers them: `places`, (labels) -> their numbers, is asked where labels differ from
    those of the lines before.
    """

    def __init__(self, group: str | None, places: Callable[[list[Any]], np.ndarray]) -> None:
        self._group, self._places = group, places
        self._labels: list[Any] | None = None
        self._found = ONE_GROUP

    def of(self, lines: LineBatch) -> LineCodes:
        """Of the next lines."""
        if self._group is None:
            return LineCodes(NO_GROUPS, ONE_GROUP)
        groups = lines.groups[self._group]
        if groups.labels is not self._labels:
            self._labels, self._found = groups.labels, self._places(groups.labels)
        return LineCodes(groups.codes, self._found)


# -- the first pass -----------------------------------------------------------------------------------------------------


@dataclass
class GroupCounts:
    """The lines of each group.

    `labels`: label -> position; `lines`: (groups,) how many; `counts`: (groups, 2**bits) how many have a score in each bin, of
    which `bits` are told apart, uint32 while that holds them, then int64; a score that was never observed is in none. Both
    arrays may have room for more groups.
    """

    labels: dict[Any, int] = field(default_factory=dict)
    lines: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, 1 << MOST), np.uint32))

    @property
    def bits(self) -> int:
        """How many bits of the bins' numbers are told apart."""
        return int(self.counts.shape[1]).bit_length() - 1

    def places(self, labels: list[Any]) -> np.ndarray:
        """The positions of these labels, (labels,) int32; new ones are added without a line."""
        found = np.array([self.labels.setdefault(label, len(self.labels)) for label in labels], np.int32)
        groups = len(self.lines)
        if len(self.labels) > groups:
            room = max(len(self.labels), 2 * groups)  # so that few copies are made, however they come
            self.narrow(bits_for(room))
            self.lines, lines = np.zeros(room, np.int64), self.lines
            self.counts, counts = np.zeros((room, self.counts.shape[1]), self.counts.dtype), self.counts
            self.lines[:groups], self.counts[:groups] = lines, counts
        return found

    def make_room(self, lines: int) -> None:
        """Let the counts hold so many lines more."""
        if self.counts.dtype == np.uint32 and self.lines.sum() + lines > _MOST_COUNTED:
            self.counts = self.counts.astype(np.int64)

    def narrow(self, bits: int) -> None:
        """Tell at most so many bits apart."""
        if bits < self.bits:
            each = self.counts.reshape(len(self.counts), 1 << bits, 1 << (self.bits - bits))
            self.counts = each.sum(axis=2, dtype=self.counts.dtype)


def count_groups(
    share: TableShare, column: str | None, bins: ScoreBins | None, group: str | None, asked: AskedColumns
) -> GroupCounts:
    """Count the lines of each group, and the scores of `column` by their bins if it is given."""
    found = GroupCounts()
    if bins is None:
        found.narrow(0)
    codes = CodesOfLines(group, found.places)
    for lines in lines_of(share.pieces, asked):
        count_lines(found, column, bins, codes.of(lines), lines)
    return found


def count_lines(
    found: GroupCounts, column: str | None, bins: ScoreBins | None, codes: LineCodes, lines: LineBatch
) -> None:
    """Add some lines to the counts of `count_groups`. `codes`: numbered by `found.places`."""
    if codes.groups is ONE_GROUP:
        found.places([None])
    if column is not None and bins is not None:
        raw = lines.scores[column].view(np.uint32)
        found.make_room(lines.length)
        tally.count_all(raw, *codes, *bins.told_by(found.bits), found.lines, found.counts.reshape(-1))
    elif codes.groups is ONE_GROUP:
        found.lines += lines.length
    else:
        np.add.at(found.lines, codes.groups, np.bincount(codes.codes, minlength=len(codes.groups)))


def merge_groups(a: GroupCounts, b: GroupCounts) -> GroupCounts:
    """A merge of `count_groups`."""
    places: Any = a.places([*b.labels])
    groups, bits = len(places), min(a.bits, b.bits)
    a.narrow(bits)
    b.narrow(bits)
    if np.array_equal(places, np.arange(groups)):
        places = slice(groups)  # in place
    a.make_room(int(b.lines.sum()))
    a.lines[places] += b.lines[:groups]
    a.counts[places] += b.counts[:groups]
    return a


# -- further passes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Intervals:
    """Where cuts are looked for: intervals of rank keys, by group.

    `labels`: label -> group (None alone where there are no groups); `begins`: (groups + 1,) where the cuts of each group begin;
    floors, lows, highs: (cuts,) uint64, what is counted below an interval begins at its floor, and the interval is
    low … high; shifts: (cuts,) uint64, how wide bins are; `bits`: how many bins there are.
    """

    labels: dict[Any, int]
    begins: np.ndarray
    floors: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    shifts: np.ndarray
    bits: int = 0

    def places(self, labels: list[Any]) -> np.ndarray:
        """The groups of these labels, (labels,) int32."""
        return np.array([self.labels[label] for label in labels], np.int32)

    def nothing(self) -> "NearCuts":
        """A list without a line."""
        return NearCuts(np.zeros(len(self.lows), np.int64), None)


@dataclass
class NearCuts:
    """What lies near the cuts. `below`: (cuts,) lines between floor and low.

    Of a count: `counts`: (cuts, bins). Of a list: `cuts`, `keys`, `hashes`: which cut each line is near, its rank key and hash.
    """

    below: np.ndarray
    counts: np.ndarray | None
    cuts: list[np.ndarray] = field(default_factory=list)
    keys: list[np.ndarray] = field(default_factory=list)
    hashes: list[np.ndarray] = field(default_factory=list)


def count_near(
    share: TableShare, ranks: RankKeys, group: str | None, asked: AskedColumns, within: Intervals, fine: bool
) -> NearCuts:
    """Count the lines near cuts by bin. `fine`: whether bins are so narrow that a line's hash decides."""
    found = NearCuts(np.zeros(len(within.lows), np.int64), np.zeros((len(within.lows), 1 << within.bits), np.int64))
    codes = CodesOfLines(group, within.places)
    for lines in lines_of(share.pieces, asked):
        keys, _, own, _ = _near(lines, ranks, codes.of(lines), within, fine)
        bounds = (within.begins, within.floors, within.lows, within.highs, within.shifts)
        tally.count_within(keys, *own, *bounds, found.below, found.counts)
    return found


def list_near(
    share: TableShare, ranks: RankKeys, group: str | None, asked: AskedColumns, within: Intervals
) -> NearCuts:
    """List the lines near cuts."""
    found = within.nothing()
    codes = CodesOfLines(group, within.places)
    for lines in lines_of(share.pieces, asked):
        list_lines(found, ranks, codes.of(lines), lines, within)
    return found


def list_lines(found: NearCuts, ranks: RankKeys, codes: LineCodes, lines: LineBatch, within: Intervals) -> None:
    """Add some lines to the list of `list_near`. `codes`: numbered by `within.places`."""
    keys, hashes, own, _ = _near(lines, ranks, codes, within, True)
    cuts, places = _listed(keys, own, within, found.below)
    if len(cuts):
        found.cuts.append(cuts)
        found.keys.append(keys[places])
        found.hashes.append(hashes[places])


def merge_near(a: NearCuts, b: NearCuts) -> NearCuts:
    """A merge of `count_near` and of `list_near`."""
    a.below += b.below
    if a.counts is not None:
        a.counts += b.counts
    a.cuts += b.cuts
    a.keys += b.keys
    a.hashes += b.hashes
    return a


def list_names(
    share: TableShare, ranks: RankKeys, group: str | None, asked: AskedColumns, within: Intervals, hashes: np.ndarray
) -> list[tuple[int, Any]]:
    """(cut, name) of the lines whose rank key and hash are both those of a cut: `within.lows` and `hashes`."""
    found = []
    codes = CodesOfLines(group, within.places)
    for lines in lines_of(share.pieces, asked):
        keys, own, groups, where = _near(lines, ranks, codes.of(lines), within, True)
        cuts, places = _listed(keys, groups, within, np.zeros(len(within.lows), np.int64))
        assert lines.names is not None
        for cut, place in zip(cuts.tolist(), places.tolist(), strict=True):
            if own[place] == hashes[cut]:
                found.append((cut, lines.names.at(int(where[place]))))
    return found


def count_visits(share: TableShare, fate: Fate, asked: AskedColumns) -> VisitCounts:
    """Count what is visited; of a composed fate also what each part visits."""
    parts = getattr(fate, "parts", ())
    counts = VisitCounts(0, 0, 0, (0,) * len(parts))
    for lines in lines_of(share.pieces, asked):
        repeats = fate.visits(lines).repeats
        each = tuple(int(np.count_nonzero(part.visits(lines).repeats)) for part in parts)
        counts += VisitCounts(lines.length, int(np.count_nonzero(repeats)), int(repeats.sum(dtype=np.int64)), each)
    return counts


def merge_counts(a: VisitCounts, b: VisitCounts) -> VisitCounts:
    """A merge of `count_visits`."""
    return a + b


def _listed(keys: np.ndarray, codes: LineCodes, within: Intervals, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    most = int(np.diff(within.begins).max(initial=0)) * len(keys)
    cuts, places = np.empty(most, np.int32), np.empty(most, np.int32)
    bounds = (within.begins, within.floors, within.lows, within.highs)
    m = int(tally.list_within(keys, codes.each, *bounds, below, cuts, places))
    return cuts[:m].copy(), places[:m]


def _near(
    lines: LineBatch, ranks: RankKeys, codes: LineCodes, within: Intervals, fine: bool
) -> tuple[np.ndarray, np.ndarray, LineCodes, np.ndarray]:
    """(rank keys, hashes, groups, positions) of the lines that may be near a cut; of all lines without `fine`."""
    keys = ranks.coarse(lines)
    if keys is None:
        places = np.arange(lines.length)
    elif fine:
        places = np.empty(lines.length, np.int64)
        places = places[: tally.near_scores(keys, *codes, within.begins, within.floors, within.highs, places)]
    else:
        return keys, keys, codes, NO_GROUPS
    keys, hashes, places = ranks.fine(lines, places, int(within.highs.max()))
    return keys, hashes, codes.at(places), places
