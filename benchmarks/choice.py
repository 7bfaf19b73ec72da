"""How often `choose` is right: on simulated trainings where we know what is, and on the trainings of the evidence.

The evidence's grids have figures of full trainings on five seeds. A replay takes them in every order of the seeds: two seeds for
one round, three for the last comparison, half as many trainings as the grid at most.
"""

import itertools
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adaptive_sampler.choice import Choice, choose
from adaptive_sampler.choice.dunnett import power
from benchmarks.harness import RESULTS, Row, options, save

ABOUT = (
    "`choose` with its defaults on simulated trainings, whose figures are normal with a standard deviation of 1 at every share: "
    "how often a winner is claimed where there is none (`alike`: the candidates' figures correlate by 0.8), and how often one that "
    "is better by 2.5 is found; `told`: the power that a warning and a result tell. Then on the grids of the evidence, in every "
    "order of their five seeds: how often the choice is within one standard error of the grid's best mean, at half of the grid's "
    "trainings at most."
)
GAIN, LEVEL = 2.5, 0.025
Figures = Mapping[str, list[float]]


def simulated(others: int, seeds: int, runs: int) -> Row:
    """How often a winner is claimed on noise, and the planted one found."""
    noise = [_simulated(others, seeds, run, 0.0) for run in range(runs)]
    alike = [_simulated(others, seeds, run, 0.0, alike=0.8) for run in range(runs)]
    planted = [_simulated(others, seeds, run, GAIN) for run in range(runs)]
    return {
        "candidates": others + 1,
        "seeds": seeds,
        "claimed on noise, %": 100 * float(np.mean([found.name != "random" for found in noise])),
        "alike, %": 100 * float(np.mean([found.name != "random" for found in alike])),
        f"gain of {GAIN} found, %": 100 * float(np.mean([found.name == "1" for found in planted])),
        "told, %": 100 * power(GAIN, LEVEL, min(others, 2), seeds),
        "gain found in 80 %": planted[0].detectable / planted[0].spread,
        "trainings": planted[0].trainings,
        "of the grid": (others + 1) * seeds,
    }


def _simulated(others: int, seeds: int, run: int, gain: float, alike: float = 0.0) -> Choice:
    rng = np.random.default_rng([run, seeds, others])
    common = np.random.default_rng([run, seeds, others, 1]).normal(size=(2 * seeds, 2))  # by seed, and whether in full

    def train(name: str, seed: int, share: float) -> float:
        shared = 0.0 if name == "random" else alike
        own = float(rng.normal() + gain * (name == "1"))
        return (1 - shared) ** 0.5 * own + shared**0.5 * float(common[seed, int(share == 1)])

    names = ["random", *map(str, range(1, others + 1))]
    return choose({n: n for n in names}, train, seeds=seeds)


def grids() -> dict[str, Figures]:
    """The evidence's grids: candidate -> its validation figure at each of five seeds."""
    found: dict[str, Figures] = {}
    for noise in (0.0, 0.1, 0.2, 0.4):
        found[f"windows, {noise:.0%} wrong labels"] = _read("window", "kept", lambda row, n=noise: row["noise"] == n)
    for equal in ("epochs", "steps"):
        found[f"half of CIFAR-10, equal {equal}"] = _read(
            "diet_settings", "by", lambda row, e=equal: row.get("equal", e) == e
        )
    return found


def _read(name: str, by: str, wanted: Callable[[dict[str, Any]], bool]) -> Figures:
    found: dict[str, list[float]] = defaultdict(list)
    for line in (RESULTS / "evidence" / f"{name}.jsonl").read_text().splitlines():
        row = json.loads(line)
        if wanted(row):
            found[row[by]].append(row["found"]["validation"])
    return found


def replayed(name: str, grid: Figures, orders: int) -> Row:
    """How near the best the choices are, in so many orders of the seeds."""
    seeds = len(next(iter(grid.values())))
    runs, finalists = len(grid) * seeds, 2 if len(grid) > 5 else 1
    best = max(grid, key=lambda one: np.mean(grid[one]))
    error = np.std(grid[best], ddof=1) / seeds**0.5
    found = []
    for order in itertools.islice(itertools.permutations(range(seeds)), orders):
        played = choose(
            {one: one for one in grid},
            lambda one, seed, share, order=order: grid[one][order[seed]],
            seeds=3,
            finalists=finalists,
            first_share=1.0,
            budget=runs / 2,
        )
        found.append(played)
    near = [np.mean(grid[best]) - np.mean(grid[one.name]) <= error for one in found]
    return {
        "grid": name,
        "candidates": len(grid),
        "finalists": finalists,
        "within one standard error, %": 100 * float(np.mean(near)),
        "random, %": 100 * float(np.mean([one.name == "random" for one in found])),
        "trainings": max(one.trainings for one in found),
        "of the grid": runs,
    }


def main() -> None:
    """Simulate, replay, and write the tables."""
    parser = options(ABOUT)
    parser.add_argument("--runs", type=int, default=2000, help="simulated choices of each kind")
    arguments = parser.parse_args()
    runs, orders = (3, 2) if arguments.quick else (arguments.runs, 120)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of few seeds, which are what is measured
        rows = [simulated(others, seeds, runs) for seeds in (2, 3, 5, 10) for others in (1, 7, 31)]
        rows += [replayed(name, grid, orders) for name, grid in grids().items()]
    save("choice", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
