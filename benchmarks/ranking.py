"""Comparing two rankings, beside one sort by SciPy."""

import argparse
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.ranking import stability
from benchmarks.harness import Row, options, save

ABOUT = (
    "`stability` of two scores, which ranks both, correlates the ranks and compares what is kept, beside `scipy.stats.rankdata` of "
    "one of them and `scipy.stats.spearmanr` of both, in turns in one process. `times rankdata`: over the time of the former."
)


def measured(kind: str, scores: np.ndarray, rounds: int) -> list[Row]:
    """The time of each contestant."""
    one, other = scores
    contestants: dict[str, Any] = {
        "stability": lambda: stability(one, other),
        "rankdata, one array": lambda: rankdata(one),
        "spearmanr": lambda: spearmanr(one, other),
    }
    times = take_turns(contestants, rounds)
    base = times["rankdata, one array"]
    return [
        {"scores": kind, "rows": len(one), "contestant": name, "seconds": taken, "times rankdata": taken / base}
        for name, taken in times.items()
    ]


def main() -> None:
    """Measure, and write the table."""
    parser = options(ABOUT)
    parser.add_argument("--n", type=float, default=1e7, help="rows")
    arguments: argparse.Namespace = parser.parse_args()
    if arguments.quick:
        arguments.n = 1000
    rng = np.random.default_rng(0)
    continuous = rng.lognormal(size=(2, int(arguments.n))).astype(np.float32)
    few = rng.poisson(3, (2, int(arguments.n))).astype(np.float32)
    rows = measured("all different", continuous, arguments.rounds) + measured("counts", few, arguments.rounds)
    save("ranking", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
