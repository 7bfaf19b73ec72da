"""Rows that together stand for all: facility location over a graph of neighbours, by lazy greedy choice."""

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel


@kernel
def _gain(row: Any, bounds: Any, others: Any, likeness: Any, weights: Any, cover: Any) -> Any:
    """What choosing a row adds: over its neighbours, weight times how much liker it is than what is chosen."""
    gain = 0.0
    for edge in range(bounds[row], bounds[row + 1]):
        more = likeness[edge] - cover[others[edge]]
        if more > 0.0:
            gain += more * weights[others[edge]]
    return gain


@kernel
def _choose(
    bounds: Any, others: Any, likeness: Any, weights: Any, cover: Any, ties: Any, number: Any, chosen: Any
) -> None:
    """Choose `number` further rows, one after another: of the largest gain each, of equal ones that of the smallest tie.

    A gain never grows while more is chosen, so that only the one in front is found anew.
    """
    heap = [(-_gain(row, bounds, others, likeness, weights, cover), ties[row], row) for row in range(chosen.size)]
    heapq.heapify(heap)
    while number > 0:
        _, tie, row = heapq.heappop(heap)
        if chosen[row]:
            continue
        fresh = (-_gain(row, bounds, others, likeness, weights, cover), tie, row)
        if len(heap) > 0 and fresh > heap[0]:
            heapq.heappush(heap, fresh)
            continue
        chosen[row] = True
        number -= 1
        for edge in range(bounds[row], bounds[row + 1]):
            cover[others[edge]] = max(cover[others[edge]], likeness[edge])


class Neighbours:
    """Which rows stand for which, and how well: each for itself with 1, and for its neighbours by their likeness, 0 to 1.

    `found`: (n, k) int64, the neighbours of each row; `likeness`: (n, k) float32, how alike they are. Two rows are neighbours of
    each other if one of them is the other's.
    """

    def __init__(self, found: NDArray[np.int64], likeness: NDArray[np.float32]) -> None:
        n, k = found.shape
        one, other = np.repeat(np.arange(n), k), found.ravel()
        alike = np.clip(likeness.ravel(), 0, 1).astype(np.float64)
        rows, others = np.concatenate([one, other, np.arange(n)]), np.concatenate([other, one, np.arange(n)])
        both = np.concatenate([alike, alike, np.ones(n)])
        order = np.lexsort((-both, others, rows))
        rows, others, both = rows[order], others[order], both[order]
        first = np.append(True, (rows[1:] != rows[:-1]) | (others[1:] != others[:-1]))  # of a pair that is there twice
        rows, self._others, self._likeness = rows[first], others[first], both[first]
        self._bounds = np.searchsorted(rows, np.arange(n + 1))

    def cover(
        self, weights: NDArray[np.float64], number: int, *, ties: NDArray[np.uint64], given: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """The rows that are `given`, and `number` others, (n,) bool: greedily those that raise the most Σ weight · likeness to the
        likest row that is chosen. `weights`: (n,), 0 or more. `ties`: (n,), the smallest of which is first among equal rows."""
        chosen, cover = given.copy(), np.zeros(len(given))
        for row in np.flatnonzero(given):
            edges = slice(self._bounds[row], self._bounds[row + 1])
            cover[self._others[edges]] = np.maximum(cover[self._others[edges]], self._likeness[edges])
        _choose(self._bounds, self._others, self._likeness, weights, cover, ties, number, chosen)
        return chosen
