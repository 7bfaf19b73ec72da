"""Contestants that take turns within one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def take_turns(
    contestants: Mapping[str, Callable[[], Any]], rounds: int, *, before: Callable[[], Any] | None = None
) -> dict[str, float]:
    """The median seconds of each, run in turns, so that a noisy machine is noisy for all of them alike.

    `before` is called ahead of each turn and not timed: `os.sync`, where one contestant's unwritten pages would be
    another's wait.
    """
    return {name: statistics.median(each) for name, each in every_turn(contestants, rounds, before=before).items()}


def every_turn(
    contestants: Mapping[str, Callable[[], Any]], rounds: int, *, before: Callable[[], Any] | None = None
) -> dict[str, list[float]]:
    """The seconds of each round. One more turn, the first, warms up."""
    for run in contestants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            if before:
                before()
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times
