"""Samplers and contestants that the tests of the benchmark name as module:function."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adaptive_sampler.commands.bench.base import Package

HERE = __name__
ABSENT = Package("no_such_package_of_anybody", "no-such-package")


class Walk:
    """What `epoch` yields, anew each time."""

    def __init__(self, epoch: Callable[[], Any]) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        return iter(self.epoch())


def shuffled(n: int) -> Walk:
    return Walk(lambda: np.random.default_rng().permutation(n).tolist())


def arrays(n: int) -> Walk:
    return Walk(lambda: np.array_split(np.random.default_rng().permutation(n), 7))


def lists(n: int, batch_size: int) -> Walk:
    return Walk(lambda: [list(range(i, min(i + batch_size, n))) for i in range(0, n, batch_size)])


def scalars(n: int) -> Walk:
    return Walk(lambda: np.arange(n))


def seeded(n: int, seed: int = 0) -> Walk:
    assert seed == 0, "only a parameter named batch_size is given one"
    return shuffled(n)


def every_other(n: int) -> Walk:
    return Walk(lambda: range(0, n, 2))


def drawn(n: int) -> Walk:
    return Walk(lambda: np.random.default_rng().integers(0, n, n))


def once(n: int) -> Any:
    return (i for i in range(n))


def too_few(n: int) -> Walk:
    return Walk(lambda: range(n - 7))


def outside(n: int) -> Walk:
    return Walk(lambda: range(1, n + 1))


def words(n: int) -> Walk:
    return Walk(lambda: ["a"] * n)


def fractions(n: int) -> Walk:
    return Walk(lambda: np.arange(n) / 2)


def endless(n: int) -> Walk:
    return Walk(lambda: iter(lambda: 0, 1))


def nothing(n: int) -> None:
    return None


def without_rows() -> Walk:
    return Walk(list)


def breaking(n: int) -> Walk:
    return Walk(lambda: ({}["lost"] for _ in range(n)))


def naps(n: int, seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


def says(n: int, seconds: float) -> Callable[[], float]:
    return lambda: seconds


def holds(n: int, mib: int) -> Callable[[], None]:
    return lambda: np.ones(mib << 20, np.uint8).sum() and None  # touched, so that it is really there


class Keeps:
    """Holds from the first turn on what each turn works on."""

    def __init__(self, n: int) -> None:
        self.kept: Any = None

    def __call__(self) -> None:
        if self.kept is None:
            self.kept = np.ones(64 << 20, np.uint8)


def fails(n: int) -> Callable[[], None]:
    raise ValueError(f"cannot exceed {n}\nand a second line")


def fails_later(n: int) -> Callable[[], None]:
    return lambda: fails(n)  # type: ignore[return-value]


def dies(n: int) -> Callable[[], None]:
    return lambda: os._exit(9)
