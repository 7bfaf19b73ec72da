"""Find cuts: lines of given ranks, exactly, by passes that narrow the intervals in which they lie until few lines are left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptive_sampler.tables.planning import passes
from adaptive_sampler.tables.planning.lines import AskedColumns
from adaptive_sampler.tables.planning.partitions import Partitions, joined
from adaptive_sampler.tables.planning.ranks import LineCut, RankKeys

LISTED = 1 << 19  # lines near cuts that are listed in one pass, at most: 10 MiB, and as much again to sort them
# Half of where a line is guessed to be: so many standard deviations of its rank, and so many lines.
WIDTH, ROOM = 6.0, 32


@dataclass
class CutSearch:
    """A line that is looked for.

    `group`: of the line; `rank`: in its group, ascending; low … high: the rank keys among which its own surely is; `before`:
    lines of its group below low; `inside`: lines among them; `near`: where it most likely is; `ties`: as in `LineCut`, once known.
    """

    group: Any
    rank: int
    low: int
    high: int
    before: int
    inside: int
    near: tuple[int, int] | None = None
    width: float = 0.0  # of `near`, once it was guessed
    ties: int | None = None
    found: LineCut | None = None
    hope: float = 0.0  # how many lines `near` has, where rank keys are not `uniform`
    uniform: bool = True

    @property
    def bounds(self) -> tuple[int, int]:
        """Where to look."""
        return self.near or (self.low, self.high)

    @property
    def expected(self) -> float:
        """About how many lines lie there."""
        if self.near and not self.uniform:
            return self.hope
        low, high = self.bounds
        return self.inside * (high - low + 1) / (self.high - self.low + 1)

    def guess(self) -> None:
        """Set `near`, as if rank keys were uniform from low to high, where that would spare most of the lines.

        It is wider each time, as the line was not in the one before.
        """
        if not self.uniform:
            if self.near is None:  # of lines that arrive again and again more than was thought possible
                self.high += 1 << 52
            self.near = None
            return
        span, rank = self.high - self.low + 1, self.rank - self.before
        self.width = 4 * self.width or WIDTH
        deviation = math.sqrt(rank * (self.inside - rank) / self.inside)
        slack = self.width * deviation + self.width / WIDTH * ROOM
        low = self.low + max(0, math.floor((rank - slack) / self.inside * span))
        high = min(self.high, self.low + math.ceil((rank + slack) / self.inside * span))
        self.near = (low, high) if 2 * (high - low) < span else None


def few(searches: Sequence[CutSearch]) -> bool:
    """Whether so few lines lie where these look that they can be listed."""
    return sum(one.expected for one in searches) <= LISTED


class TableSearch:
    """Finds cuts in the ranking that `ranks` says, within the groups of the column `group` if it is one."""

    def __init__(self, table: Partitions, ranks: RankKeys, group: str | None, asked: AskedColumns) -> None:
        self._table, self._ranks, self._group, self._asked = table, ranks, group, asked

    def find(self, searches: Sequence[CutSearch], labels: dict[Any, int]) -> None:
        """Find all the lines. `labels`: label -> position, of all groups of the table (None alone where there is no column)."""
        while True:
            for one in searches:
                self._settle(one)
            left = [one for one in searches if one.found is None]
            if not left:
                return
            left.sort(key=lambda one: labels[one.group])
            narrow = all(one.low == one.high for one in left)
            if narrow or few(left):
                self._list(left, labels)
            else:
                self._count(left, labels)

    def _settle(self, one: CutSearch) -> None:
        """Take what is already known for the answer, or for a guess."""
        span = one.high - one.low + 1
        if one.found is not None or span > 1 << self._ranks.hashed:
            return
        scores = self._ranks.hashed < 64 and span == 1 << self._ranks.hashed and one.ties is None
        if scores:
            one.ties = one.inside
            if one.rank == one.before:
                one.found = LineCut(one.low, ties=one.ties)
                return
        if one.uniform and not one.width:
            one.guess()

    def _count(self, left: Sequence[CutSearch], labels: dict[Any, int]) -> None:
        bits = passes.bits_for(len(left))
        widths = [(high - low).bit_length() for low, high in (one.bounds for one in left)]
        hashed = self._ranks.hashed
        coarse = all(width > hashed for width in widths)
        shifts = [max(width - bits, hashed if width > hashed else 0) for width in widths]
        bits = max(width - shift for width, shift in zip(widths, shifts, strict=True))
        within = self.within(left, labels, shifts, bits)
        task = (self._ranks, self._group, self._ranks.asked(self._asked, not coarse), within, not coarse)
        near = self._table.run(passes.count_near, task, passes.merge_near)
        assert near.counts is not None
        for number, one in enumerate(left):
            ends = np.cumsum(near.counts[number])
            rank = one.rank - one.before - int(near.below[number])
            if not 0 <= rank < ends[-1]:
                one.guess()
                continue
            place = int(np.searchsorted(ends, rank, side="right"))
            one.inside = int(near.counts[number, place])
            one.before += int(near.below[number]) + int(ends[place]) - one.inside
            low, high = one.bounds
            one.low = low + (place << shifts[number])
            one.high = min(high, one.low + (1 << shifts[number]) - 1)
            one.near = None

    def _list(self, left: Sequence[CutSearch], labels: dict[Any, int]) -> None:
        asked = self._ranks.asked(self._asked, True)
        task = self._ranks, self._group, asked, self.within(left, labels)
        self.take(self._table.run(passes.list_near, task, passes.merge_near), left, labels)

    def take(self, near: passes.NearCuts, left: Sequence[CutSearch], labels: dict[Any, int]) -> None:
        """Find those of the lines that are among listed ones: the list is of what lies `within` these searches."""
        cuts, keys, hashes = (np.concatenate(part) if part else np.empty(0, np.uint64) for part in _parts(near))
        for part in _parts(near):
            part.clear()  # else they would be held twice
        order = np.argsort(cuts.astype(np.min_scalar_type(len(left))), kind="stable")
        borders = np.searchsorted(cuts[order], np.arange(len(left) + 1))
        unclear: list[tuple[CutSearch, LineCut, int]] = []
        for number, one in enumerate(left):
            some = order[borders[number] : borders[number + 1]]
            rank = one.rank - one.before - int(near.below[number])
            if not 0 <= rank < len(some):
                one.guess()
            else:
                one.found, earlier = self._cut(one, keys[some], hashes[some], rank)
                if earlier:
                    unclear.append((one, one.found, earlier))
        if unclear:
            self._name(unclear, labels)

    def _cut(self, one: CutSearch, keys: np.ndarray, hashes: np.ndarray, rank: int) -> tuple[LineCut, int]:
        """The cut at the rank-th of these lines, and how many before it have its rank key and hash."""
        key = int(np.partition(keys, rank)[rank])
        rank -= int(np.count_nonzero(keys < np.uint64(key)))
        ties = one.ties or 0
        if self._ranks.hashed < 64 and one.ties is None:
            first = key >> self._ranks.hashed << self._ranks.hashed
            tied = keys >> np.uint64(self._ranks.hashed) == np.uint64(key >> self._ranks.hashed)
            ties = int(np.count_nonzero(tied))
            if rank == 0 and not np.any(tied & (keys < np.uint64(key))):
                return LineCut(first, ties=ties), 0
        alike = hashes[keys == np.uint64(key)]
        own = np.partition(alike, rank)[rank]
        return LineCut(key, int(own), ties=ties), rank - int(np.count_nonzero(alike < own))

    def _name(self, unclear: Sequence[tuple[CutSearch, LineCut, int]], labels: dict[Any, int]) -> None:
        """Lines of equal hash on both sides of a cut: their names decide."""
        exact = [CutSearch(one.group, 0, cut.key, cut.key, 0, 0) for one, cut, _ in unclear]
        within = self.within(exact, labels)
        hashes = np.array([cut.hash for _, cut, _ in unclear], np.uint64)
        asked = self._ranks.asked(self._asked, True)
        found = self._table.run(passes.list_names, (self._ranks, self._group, asked, within, hashes), joined)
        for number, (one, cut, earlier) in enumerate(unclear):
            names = sorted(name for which, name in found if which == number)
            one.found = cut._replace(name=names[earlier])

    def within(
        self, left: Sequence[CutSearch], labels: dict[Any, int], shifts: Sequence[int] = (), bits: int = 0
    ) -> passes.Intervals:
        """Where these searches look, in the order of their groups' positions; bins of 2**shifts keys, unless they list."""
        groups = np.array([labels[one.group] for one in left])
        begins = np.searchsorted(groups, np.arange(len(labels) + 1))
        floors, lows, highs = (
            [one.low for one in left],
            [one.bounds[0] for one in left],
            [one.bounds[1] for one in left],
        )
        bounds = [np.array(values, np.uint64) for values in (floors, lows, highs, shifts or [0] * len(left))]
        return passes.Intervals(labels, begins, bounds[0], bounds[1], bounds[2], bounds[3], bits)


def _parts(near: passes.NearCuts) -> tuple[list[np.ndarray], ...]:
    return near.cuts, near.keys, near.hashes
