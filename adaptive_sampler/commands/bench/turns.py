"""Lets contestants take turns within one process, and times them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def take_turns(
    contestants: Mapping[str, Callable[[], Any]], rounds: int, *, before: Callable[[], Any] | None = None
) -> dict[str, float]:
    """The median seconds of each contestant. They take turns, so that noise on the machine affects all of them alike.

    `before`: called before each turn, and not timed. Pass `os.sync` if a contestant would otherwise wait for pages that
    another one has not written to disk yet.
    """
    return {name: statistics.median(each) for name, each in every_turn(contestants, rounds, before=before).items()}


def every_turn(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    before: Callable[[], Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """The seconds of each contestant in each round. One more turn before the rounds warms up.

    `clock`: `time.thread_time` for work of one thread, so that others on a busy machine are not counted.
    """
    for run in contestants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            if before:
                before()
            start = clock()
            run()
            times[name].append(clock() - start)
    return times
