"""Simulated trainings: figures of a seed and a candidate, with a gain planted where we know it."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from adaptive_sampler.choice import Choice, choose

CANDIDATES = {"random": 0, **{f"candidate {i}": i for i in range(1, 8)}}
PLANTED = "candidate 3"


def training(run: int, gain: float = 0.0) -> Callable[[Any, int, float], float]:
    """Figures with a standard deviation of 1 and, for candidate 3, a gain. A seed moves all of its figures alike, too."""
    common, own = (
        np.random.default_rng([run, 0]).normal(size=100),
        np.random.default_rng([run, 1]).normal(size=(3, 100, 8)),
    )

    def train(candidate: int, seed: int, share: float) -> float:
        return float(
            2 * common[seed] + own[{0.25: 0, 0.5: 1, 1.0: 2}[share], seed, candidate] + gain * (candidate == 3)
        )

    return train


def chosen(run: int, seeds: int, gain: float = 0.0) -> Choice:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return choose(CANDIDATES, training(run, gain), seeds=seeds)


Told = list[tuple[Any, int, float]]


def told(gains: dict[Any, float] | None = None) -> tuple[Told, Any]:
    """The calls of a training, and the training: its figure is a little noise, and the candidate's gain."""
    calls: Told = []
    rng = np.random.default_rng(0)

    def train(candidate: Any, seed: int, share: float) -> float:
        calls.append((candidate, seed, share))
        return rng.normal() / 100 + (gains or {}).get(candidate, 0)

    return calls, train
