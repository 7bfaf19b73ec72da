"""Which scores a pass counts together: bins that are narrow where a sample of the table has many scores."""

from dataclasses import dataclass

import numpy as np

from adaptive_sampler.kernels import tally
from adaptive_sampler.tables.planning.engines import TableShare
from adaptive_sampler.tables.planning.lines import AskedColumns, lines_of
from adaptive_sampler.tables.planning.partitions import Partitions
from adaptive_sampler.tables.planning.ranks import HALF, ByScore

MOST = 16  # bits of a bin's number that a pass tells apart
_ALL = 18  # bits of a bin's number
_UPPER = 1 << 16  # how many values the upper half of a score's bits has: their bins are alike
_LARGE = 1 << 30  # bytes of a table
_SAMPLED = 8  # shares that a sample is taken of, one batch each


@dataclass(frozen=True)
class ScoreBins:
    """Numbers of bins, which ascend with the rank keys of scores. Any bins lead to the same cuts; good ones spare a pass.

    `firsts`: (2**16,) uint32, the first bin of the scores with these upper 16 bits; `shifts`: (2**16,) uint8, how many of the other
    16 bits their bins do not tell apart.
    """

    firsts: np.ndarray
    shifts: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> "ScoreBins":
        """Bins for scores of which a sample has so many with these upper bits: (2**16,) int64.

        Three quarters of the bins go where the sample's scores are, as many as there are scores; one where there are none.
        """
        shares = counts / max(int(counts.sum()), 1)
        bits = np.floor(np.log2(1 + 3 * _UPPER * shares)).astype(np.uint8).clip(max=16)
        ends = np.cumsum(np.int64(1) << bits.astype(np.int64))
        return cls(np.concatenate([np.zeros(1, np.int64), ends[:-1]]).astype(np.uint32), 16 - bits)

    @classmethod
    def even(cls) -> "ScoreBins":
        """Bins for scores of which nothing is known."""
        return cls.of(np.ones(_UPPER, np.int64))

    def told_by(self, bits: int) -> tuple[np.ndarray, np.ndarray, np.uint32, np.uint32]:
        """As kernels take them, where so many bits are told apart."""
        return self.firsts, self.shifts, np.uint32(_ALL - bits), np.uint32(bits)

    def borders(self, bits: int) -> np.ndarray:
        """Where each bin begins that `bits` tell apart, and at last where all end: (2**bits + 1,) int64, halves of rank keys."""
        numbers = np.arange((1 << bits) + 1) << (_ALL - bits)
        uppers = np.searchsorted(self.firsts, numbers, side="right") - 1
        lowers = (numbers - self.firsts[uppers]) << self.shifts[uppers].astype(np.int64)
        found: np.ndarray = np.minimum((uppers << 16) + lowers, 1 << HALF)
        return found


def bins_for(table: Partitions, ranks: ByScore, asked: AskedColumns) -> ScoreBins:
    """Bins for the scores of a table. Some lines are looked at where so few bits can be told apart, or there are so many lines,
    that it may spare a pass.
    """
    if not asked.groups and table.size < _LARGE:
        return ScoreBins.even()
    counts = table.sample(count_upper, (ranks, ranks.asked(asked._replace(groups=()), False)), merge_upper, _SAMPLED)
    return ScoreBins.even() if counts is None else ScoreBins.of(counts)


def count_upper(share: TableShare, ranks: ByScore, asked: AskedColumns) -> np.ndarray:
    """How many of the first lines of a share have a score with these upper bits, (2**16,) int64."""
    found = np.zeros(_UPPER, np.int64)
    for lines in lines_of(share.pieces, asked):
        keys = ranks.coarse(lines)
        if len(keys):
            uppers = keys[keys != tally.UNRANKED] >> np.uint64(48)
            found += np.bincount(uppers.astype(np.int64), minlength=_UPPER)
            break
    return found


def merge_upper(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A merge of `count_upper`."""
    found: np.ndarray = a + b
    return found
