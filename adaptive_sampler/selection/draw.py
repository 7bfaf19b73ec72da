"""Draw rows with probability proportional to a score: weighted sampling, as for L2RW."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.checks import is_number, whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import bits, exact, runs, weigh
from adaptive_sampler.kernels import draw as kernels
from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.plan import MOST_VISITS, Plan
from adaptive_sampler.selection.base import Scores, check_by, exactly, numbers_by
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.per_group import ranking, settle_groups


@dataclass(frozen=True, eq=False)
class Draw(Composable):
    """Draw `num_samples` rows (None: as many as the store has), each with probability p proportional to its score `by`.

    `num_samples`: a count (int), or a share f of the n rows (float, also above 1), which gives floor(f·n + ½) samples, one at
    least. `floor`: the share of the draw that is uniform: p = (1 − floor)·s/Σs + floor/n. A row never observed counts as if it
    had the mean score of the others. `unbiased`: each sample gets the loss weight 1/(n·p), so that the expected loss is
    that of uniform sampling. `replacement=False`: each row is drawn at most once, one row after another, as
    torch.multinomial does. `per_group`: the name of a column of the store, or (n,) labels; each group is then drawn from by
    itself, as often as it has rows, or that share of it. Scores must be finite and not negative. If all scores are 0, the draw
    is uniform if `floor` > 0, and an error otherwise.
    """

    by: str
    num_samples: Varying = None
    _: KW_ONLY
    replacement: bool = True
    floor: Varying = 0.0
    unbiased: bool = False
    per_group: Any = None

    def __post_init__(self) -> None:
        check_by(self.by)
        if not is_number(self.floor) or not 0 <= self.floor <= 1:
            raise InvalidValue(f"floor={self.floor!r}: the share drawn uniformly, 0 <= floor <= 1.")
        check_samples(self.num_samples)
        if self.per_group is not None and isinstance(self.num_samples, (int, np.integer)):
            raise InvalidValue(
                f"num_samples={self.num_samples} with per_group: how many of these are of which group is not said. Pass a share "
                "of each group as a float, such as 0.5, or None for as many samples as it has rows."
            )
        if self.unbiased and not self.replacement:
            raise InvalidValue(
                "unbiased=True with replacement=False: 1/(n·p) is the weight of independent draws. Draw with replacement."
            )
        settle_groups(self)

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row once if no row was observed yet, else the draw.

        Raises `InvalidValue` for a score that is negative or infinite, for scores that are all 0 without a `floor`, and
        without replacement for more samples than there are rows with a positive weight.
        """
        key = numbers_by(self.by, seeds.Purpose.DRAW, epoch=epoch, seed=seed)
        scores, groups = store[self.by], ranking(self, store)
        if not store.observed(self.by):
            return make(store, self, epoch, seed)
        if not self.replacement:
            once = np.empty(len(store), np.bool_)
            for rows, identity in groups.members():
                packed = self._once(scores[rows], rows, identity, key)
                once[rows] = np.unpackbits(packed, count=len(identity), bitorder="little")
            return make(store, self, epoch, seed, kept=once)
        counts = np.empty(len(store) if len(groups.numbers) > 1 else 0, np.uint8)
        weights = np.zeros(len(store) if self.unbiased else 0, np.float32)
        for rows, identity in groups.members():
            odds = self._odds(scores[rows], rows)
            drawn = kernels.multinomial_counts(odds, self.samples_of(len(odds)), key=key, identity=identity)
            if self.unbiased:
                weights[rows] = _unbiased(odds, drawn)
            if len(groups.numbers) == 1:  # each array of n rows counts where there are a billion
                counts = drawn
            else:
                counts = counts.astype(np.promote_types(counts.dtype, drawn.dtype), copy=False)
                counts[rows] = drawn
        own = weights[counts > 0] if self.unbiased else None
        kept, repeats = runs.occupied(counts)
        return make(store, self, epoch, seed, kept=kept, counts=repeats, weights=own)

    def _once(self, scores: np.ndarray, rows: Any, identity: Identity, key: int) -> np.ndarray:
        """Which of the rows of a group, or of all, are drawn without replacement, as a bitmap."""
        number = self.samples_of(len(scores))
        kept = kernels.sample_without_replacement(self._odds(scores, rows), number, key=key, identity=identity)
        if (found := bits.count(kept)) < number:
            raise InvalidValue(
                f"num_samples={number} without replacement, but only {found} rows{_whose(rows)} have a positive "
                f"{self.by!r}. Draw fewer, or set floor above 0."
            )
        return kept

    def samples_of(self, n: int) -> int:
        """How many samples are drawn from a store, or a group, of `n` rows. Raises `InvalidValue` for 2³² or more."""
        return samples_of(self.num_samples, n)

    def _odds(self, scores: np.ndarray, rows: Any) -> weigh.Weights:
        """The weights of `rows`, (n,) float32. With replacement, their mean is 1."""
        known, positive, bad = weigh.survey(scores)
        if bad >= 0:
            raise InvalidValue(
                f"{self.by!r} of row {bad if isinstance(rows, slice) else rows[bad]} is {scores[bad]}: a score to draw by must "
                "be finite and not negative. Draw by another score, or prune by this one."
            )
        if known and not positive and self.floor == 0:
            raise InvalidValue(
                f"every observed {self.by!r}{_whose(rows)} is 0, so nothing can be drawn. Set floor above 0 to draw uniformly "
                "where there is nothing to choose by."
            )
        if not positive:
            return weigh.Weighed(scores, 1.0, 1.0)  # all are 1
        if not self.replacement and self.floor == 0 and known == len(scores):
            return scores  # a common factor would not change the draw
        return weigh.Weighed(scores, exact.mean(scores), self.floor)


def check_samples(number: Any) -> None:
    """Raise `InvalidValue` unless `number` is a count of samples (int), a share of the rows above 0 (float), or None."""
    if isinstance(number, (float, np.floating)):
        if not (number > 0 and math.isfinite(number)):
            raise InvalidValue(f"num_samples={number}: a share of the rows, above 0, or a count of samples as an int.")
    elif number is not None:
        whole_number("num_samples", number, 1, most=MOST_VISITS, otherwise=", or None for the store's rows")


def samples_of(number: Any, n: int) -> int:
    """How many samples `num_samples` is of `n` rows. Raises `InvalidValue` for 2³² or more."""
    if number is None or isinstance(number, (int, np.integer)):
        return n if number is None else int(number)
    found = max(math.floor(exactly(number) * n + exactly(0.5)), 1)
    if found > MOST_VISITS:
        raise InvalidValue(f"num_samples={number} of {n} rows is {found}: draw {MOST_VISITS} at most.")
    return found


def _unbiased(odds: weigh.Weights, drawn: np.ndarray) -> np.ndarray:
    """1/(n·p) of rows with these weights, (n,) float32; 0 for a row that was not drawn."""
    mean, found = np.float64(weigh.summed(odds) / len(odds)), np.zeros(len(odds), np.float32)
    for first, piece in weigh.pieces(odds):
        some = slice(first, first + len(piece))
        np.divide(mean, piece, out=found[some], where=drawn[some] > 0)
    return found


def _whose(rows: Any) -> str:
    """Of which group, for messages."""
    return "" if isinstance(rows, slice) else f" of the group of row {rows[0]}"
