"""The data map in cells: how many rows lie where, by their confidence and their variability."""

import numpy as np

from adaptive_sampler.report.charts import Rows
from adaptive_sampler.store import ScoreStore

CELLS = 28  # to a side

WORDS: Rows = [
    {"x": 0.005, "y": 1.04, "text": "easy to learn", "align": "left"},
    {"x": 0.5, "y": 0.5, "text": "ambiguous", "align": "right"},
    {"x": 0.005, "y": -0.05, "text": "hard to learn", "align": "left"},
]


def cells(store: ScoreStore, visited: np.ndarray | None) -> Rows:
    """The cells that hold a row: {"x", "y", "all", "kept"}. `visited`: (n,) bool, or None without a plan."""
    x, y = (store[name].astype(np.float64) for name in ("variability", "confidence"))
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(known):
        return []
    sides = []
    for values, usual in ((x[known], 0.5), (y[known], 1.0)):
        low, high = min(0.0, values.min()), max(usual, values.max())
        at = np.minimum(((values - low) / (high - low) * CELLS).astype(np.int64), CELLS - 1)
        sides.append((at, low + (np.arange(CELLS) + 0.5) * (high - low) / CELLS))
    (columns, xs), (lines, ys) = sides
    places = lines * CELLS + columns
    there = np.bincount(places, minlength=CELLS * CELLS)
    kept = np.bincount(places, None if visited is None else visited[known], minlength=CELLS * CELLS)
    return [
        {
            "x": round(float(xs[place % CELLS]), 4),
            "y": round(float(ys[place // CELLS]), 4),
            "all": int(there[place]),
            "kept": int(kept[place]),
        }
        for place in np.flatnonzero(there)
    ]
