"""Which samples the gallery shows of each score: the highest, the lowest, and those on both sides of the cut."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.report.ordering import Ordered
from adaptive_sampler.report.samples import CELL, Shown, number, plain, shortened, show
from adaptive_sampler.store import ScoreStore

TILES = 8  # of each kind
_LOW_FIRST = ("margin", "confidence")  # scores whose lowest rows are those to look at
_MOST = 150  # tiles of a page, so that its size stays bounded with many scores


@dataclass(frozen=True)
class Tile:
    """One sample: what it shows, and what is known of its row."""

    row: int
    key: str
    shown: Shown
    label: str
    prediction: str
    wrong: bool
    stays: bool | None
    scores: dict[str, str]


class Group(NamedTuple):
    """Tiles of one kind, such as "Highest"."""

    title: str
    tiles: list[Tile]


@dataclass(frozen=True)
class Gallery:
    """Makes the tiles. `kept`: (n,) bool, or None without a plan; `labels`, `predictions`: (n,) or None."""

    store: ScoreStore
    dataset: Any
    kept: np.ndarray | None
    labels: np.ndarray | None
    predictions: np.ndarray | None

    def groups(self, ordered: dict[str, Ordered], cuts: dict[str, int]) -> dict[str, list[Group]]:
        """The tiles of each score. `cuts`: at which rank each is cut."""
        most = max(2, min(TILES, _MOST // (3 * max(len(ordered), 1))))
        seen: dict[int, Tile] = {}
        found = {}
        for name, one in ordered.items():
            cut = min(max(cuts[name], most // 2), max(len(one.rows) - most // 2, 0))
            chosen = {
                "Highest": one.rows[::-1][:most],
                "At the boundary": one.rows[max(cut - most // 2, 0) : cut + most // 2],
                "Lowest": one.rows[:most],
            }
            titles = list(chosen)[:: -1 if name in _LOW_FIRST else 1]
            found[name] = [Group(title, [self._tile(int(row), seen) for row in chosen[title]]) for title in titles]
        return found

    def _tile(self, row: int, seen: dict[int, Tile]) -> Tile:
        if row not in seen:
            shown = show(self.dataset, row) if self.dataset is not None else Shown()
            label, guess = (None if of is None else plain(of[row]) for of in (self.labels, self.predictions))
            label = shown.label if label is None else label
            seen[row] = Tile(
                row,
                shortened(self.store.key(row), CELL) if self.store.session.keys is not None else "",
                shown,
                shortened(label, CELL),
                "" if guess is None else shortened(guess, CELL),
                bool(label and guess and label != guess),
                None if self.kept is None else bool(self.kept[row]),
                {name: number(self.store.values(name, slice(row, row + 1))[0]) for name in self.store.names},
            )
        return seen[row]
