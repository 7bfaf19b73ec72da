"""What lines are ranked by: a 64-bit rank key that sorts like the line, then all 64 bits of its hash, then its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from adaptive_sampler.kernels import tally
from adaptive_sampler.tables.planning.lines import AskedColumns, LineBatch

HALF = 32  # bits of a rank key that a score takes, and bits of it that are the upper half of a hash
HIGHEST = int(tally.UNRANKED) - 1  # rank key
_HALF = np.uint64(HALF)


class FoundKeys(NamedTuple):
    """Rank keys and hashes, (m,) uint64, and the positions of the lines that have them."""

    keys: np.ndarray
    hashes: np.ndarray
    places: np.ndarray


class RankKeys(Protocol):
    """How lines are ranked. It can be pickled."""

    @property
    def hashed(self) -> int:
        """How many lower bits need the name."""

    @property
    def scores(self) -> tuple[str, ...]:
        """The columns with scores that rank keys are made of."""

    def asked(self, asked: AskedColumns, fine: bool) -> AskedColumns:
        """`asked` with these columns; without the key unless `fine`, where all bits of the rank keys are needed."""

    def coarse(self, lines: LineBatch) -> np.ndarray | None:
        """The rank keys without the bits that need a name, (lines,) uint64; None if no bit is left then."""

    def fine(self, lines: LineBatch, places: np.ndarray, high: int) -> FoundKeys:
        """Those of the lines at `places`, (m,) integers; of a line that has several rank keys, all up to `high`."""


@dataclass(frozen=True)
class ByScore:
    """By a score, ascending, and lines of equal scores by their hash in the sequence from `start`."""

    column: str
    start: int
    hashed: int = HALF

    @property
    def scores(self) -> tuple[str, ...]:
        return (self.column,)

    def asked(self, asked: AskedColumns, fine: bool) -> AskedColumns:
        return asked._replace(scores=(self.column,), key=asked.key if fine else None)

    def coarse(self, lines: LineBatch) -> np.ndarray:
        keys: np.ndarray = tally.score_keys(lines.scores[self.column].view(np.uint32))
        return keys

    def fine(self, lines: LineBatch, places: np.ndarray, high: int) -> FoundKeys:
        assert lines.names is not None
        hashes = lines.names.hashes(np.uint64(self.start), places)
        keys = tally.score_keys(lines.scores[self.column][places].view(np.uint32))
        return FoundKeys(keys | (hashes >> _HALF) * (keys != tally.UNRANKED), hashes, places)


@dataclass(frozen=True)
class ByHash:
    """By the hash alone, in the sequence from `start`."""

    start: int
    hashed: int = HALF
    scores: tuple[str, ...] = ()

    def asked(self, asked: AskedColumns, fine: bool) -> AskedColumns:
        return asked._replace(scores=())

    def coarse(self, lines: LineBatch) -> None:
        return None

    def fine(self, lines: LineBatch, places: np.ndarray, high: int) -> FoundKeys:
        assert lines.names is not None
        hashes = lines.names.hashes(np.uint64(self.start), places)
        return FoundKeys(hashes >> _HALF, hashes, places)


class LineCut(NamedTuple):
    """A line of the ranking; those below come before it. `ties`: how many lines have its score; 0 where it is no score.

    `key`, `hash`: the rank key and the hash; the first of their score, if none of that is below. `name`: to tell lines apart
    that have these in common, or None.
    """

    key: int
    hash: int = 0
    name: Any = None
    ties: int = 0

    @property
    def told(self) -> list[Any]:
        """The cut as JSON data."""
        return [self.key, self.hash, self.name.hex() if isinstance(self.name, bytes) else self.name]

    @property
    def through_ties(self) -> bool:
        """Whether there may be lines of its score on either side."""
        return bool(self.hash or self.name is not None or self.key % (1 << HALF))


def reaches(found: FoundKeys, lines: LineBatch, codes: np.ndarray, cuts: Sequence[LineCut]) -> np.ndarray:
    """Whether each of some lines is at the cut of its group or above it. `codes`: (m,), which of the `cuts` is its."""
    cut_keys = np.array([cut.key for cut in cuts], np.uint64)[codes]
    cut_hashes = np.array([cut.hash for cut in cuts], np.uint64)[codes]
    equal = found.keys == cut_keys
    reached: np.ndarray = (found.keys > cut_keys) | (equal & (found.hashes >= cut_hashes))
    if any(cut.name is not None for cut in cuts):
        assert lines.names is not None
        for place in np.flatnonzero(equal & (found.hashes == cut_hashes)):
            name = cuts[codes[place]].name
            reached[place] = name is None or lines.names.at(int(found.places[place])) >= name
    return reached


def scores_of(keys: np.ndarray) -> np.ndarray:
    """The scores, (m,) float32, that the upper halves of rank keys of `ByScore` stand for, (m,) integers below 2**32."""
    return (keys ^ np.where(keys >> HALF - 1, 0x80000000, 0xFFFFFFFF)).astype(np.uint32).view(np.float32)
