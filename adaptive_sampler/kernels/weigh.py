"""Scores as the weights of a draw: looked over once, and where need be scaled to mean 1, a block at a time."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels import exact
from adaptive_sampler.kernels.jit import kernel

_BLOCK = 64  # scores looked over at once
PIECE = 1 << 16  # weights that are made at once: they stay in the second-level cache; whole words of 64


@kernel
def _survey(scores: Any) -> Any:
    """(how many are there, how many of these are above 0, the first negative or infinite one or n)."""
    known = np.int64(0)
    positive = np.int64(0)
    for start in range(0, scores.size, _BLOCK):
        some = scores[start : start + _BLOCK]
        wrong = np.int64(0)
        for i in range(some.size):
            score = some[i]
            known += np.int64(score == score)
            positive += np.int64(score > 0)
            wrong += np.int64(score < 0) + np.int64(score == np.inf)
        if wrong:
            for i in range(some.size):
                if some[i] < 0 or some[i] == np.inf:
                    return known, positive, start + i
    return known, positive, scores.size


@kernel
def _weigh(scores: Any, scale: Any, floor: Any, out: Any) -> Any:
    """out[row] = (1 − floor) · score · scale + floor, 1 where the score is NaN."""
    rest = 1.0 - floor
    for i in range(scores.size):
        score = np.float64(scores[i])
        out[i] = np.float32(1.0 if np.isnan(score) else rest * (score * scale) + floor)


def survey(scores: NDArray[np.float32]) -> tuple[int, int, int]:
    """(number, number above 0) of the scores that are there, (n,) float32 with NaN where not, and the first that is negative
    or infinite, or −1 where none is."""
    known, positive, bad = _survey(scores)
    return int(known), int(positive), int(bad) if bad < len(scores) else -1


def weigh(scores: NDArray[np.float32], mean: float, floor: float) -> NDArray[np.float32]:
    """Weights (n,) float32, those of scores with this mean > 0 being 1 on average.

    (1 − floor) · score / mean + floor, and 1 for a score that is NaN. floor: 0 … 1.
    """
    weights = np.empty(len(scores), np.float32)
    # A number of NumPy's would have another precision, for which no kernel is compiled.
    _weigh(scores, 1.0 / mean, float(floor), weights)
    return weights


class Weights(Protocol):
    """Weights of n rows, float32: an array of them, or what finds those of a slice or of an array of rows when asked."""

    def __len__(self) -> int:
        """How many rows there are."""

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        """The weights of `rows`, a slice or (m,) integers."""


class Weighed:
    """The weights that `weigh` makes of scores, (n,) float32, found when they are asked for: no second array of n is held."""

    def __init__(self, scores: NDArray[np.float32], mean: float, floor: float) -> None:
        self._scores, self._mean, self._floor = scores, mean, floor

    def __len__(self) -> int:
        return len(self._scores)

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        return weigh(self._scores[rows], self._mean, self._floor)


def pieces(weights: Weights) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(first row, weights from there on) of each piece of `PIECE` rows, contiguous; the last may be shorter."""
    for first in range(0, len(weights), PIECE):
        yield first, np.ascontiguousarray(weights[first : first + PIECE], np.float32)


def summed(weights: Weights) -> float:
    """The sum of weights, rounded once."""
    sums = np.zeros(exact.EXPONENTS, np.int64)
    for _, piece in pieces(weights):
        exact.add(piece, sums)
    return float(exact.total(sums))
