"""Runs the benchmark: chooses the cases and sizes that were asked for, and makes a result from their rows."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import Any

from rich.console import Console

from adaptive_sampler.commands.bench import floors, result, show
from adaptive_sampler.commands.bench.base import Case, Row
from adaptive_sampler.commands.bench.cases import CASES
from adaptive_sampler.commands.bench.contest import Contests
from adaptive_sampler.commands.bench.contestants import own
from adaptive_sampler.errors import InvalidValue

NAME = "throughput"
ABOUT = (
    "Sampler throughput, each contestant in a process of its own, in turns. `s`: the median turn. `ratio`: how many times "
    "as long as ours, the median over the rounds. `at least`: what we set out to reach. `extra MiB`: at the peak of a turn, "
    "above what was held once it was set up. Kernels run beside a copy of as many bytes, or as many reads at random places, "
    "as they must make."
)
QUICK = 10_000
MOST = 10**10  # of more rows the bits alone, let alone scores, fill a computer


@dataclass(frozen=True)
class BenchSettings:
    """What to run. `n`: rows. `cases`: parts of names, none for all. `samplers`: a user's own, as module:factory."""

    n: tuple[int, ...]
    cases: tuple[str, ...] = ()
    rounds: int = 5
    samplers: tuple[str, ...] = ()
    quick: bool = False

    def quickly(self) -> "BenchSettings":
        """The same settings at the smallest size, one turn each, to test that everything runs."""
        return replace(self, n=(QUICK,), rounds=1, quick=True)


def run(settings: BenchSettings, console: Console) -> dict[str, Any]:
    """Run what `settings` names, smaller sizes first, and print its tables -> the result, as `result.body` makes it.

    Raises InvalidValue, before any case runs, for a case that does not exist or a sampler that does not yield rows.
    """
    cases, kernels = chosen(settings.cases)
    sizes = sorted(set(settings.n))
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # a console script does not look for modules in the current folder
    samplers = {spec: own.kind(spec) for spec in settings.samplers}
    contests = [(case, n) for case in cases for n in case.sizes(sizes)]
    rows: list[Row] = []
    with show.watch(console, len(contests) + (len(sizes) if kernels else 0)) as watch:
        held = Contests(settings.rounds, watch.told)
        for case, n in contests:
            rows += held.hold(case, n, samplers)
            watch.done(f"{case.name}, n = {n:,}")
        for n in sizes if kernels else ():
            watch.told(f"kernels, n = {n:,}")
            rows += _alone(kernels, n, settings.rounds)
            watch.done(f"kernels, n = {n:,}")
    found = result.body(NAME, rows, asdict(settings), ABOUT, by="case")
    show.tell(console, found)
    return found


def chosen(parts: Sequence[str]) -> tuple[list[Case], list[str]]:
    """The cases and the kernels whose names contain one of `parts`, or all. Raises InvalidValue if a part is in none."""
    names = {case.name: case for case in CASES}
    kernels = {f"kernel: {floor.name}": floor.name for floor in floors.FLOORS}
    for part in parts:
        if not any(part.lower() in name.lower() for name in (*names, *kernels)):
            raise InvalidValue(
                f"--case {part!r}: no case is called that. There are:\n"
                + "\n".join(f"  {name}" for name in (*names, *kernels))
            )

    def wanted(name: str) -> bool:
        return not parts or any(part.lower() in name.lower() for part in parts)

    return [case for name, case in names.items() if wanted(name)], [k for name, k in kernels.items() if wanted(name)]


def list_cases(parts: Sequence[str], console: Console) -> None:
    """Name the cases, who competes in each, and what would have to be installed."""
    cases, kernels = chosen(parts)
    for case in cases:
        console.print(case.name, style="bold", markup=False, highlight=False)
        for contestant in case.contestants:
            console.print(f"  {contestant.name}  {contestant.missing}".rstrip(), markup=False, highlight=False)
    for name in kernels:
        console.print(f"kernel: {name}", style="bold", markup=False, highlight=False)


def sizes(texts: Sequence[str]) -> tuple[int, ...]:
    """Parse numbers of rows: 10_000, 1e7, or several with commas between them.

    Raises InvalidValue for anything but whole numbers from 1000 to MOST.
    """
    found = []
    for text in ",".join(texts).split(","):
        try:
            n = float(text)
        except ValueError:
            n = -1
        if not 1000 <= n <= MOST or n % 1:  # written so that NaN is refused too
            raise InvalidValue(
                f"--n {text}: a whole number of rows, 1000 or more and {MOST:.0e} at most, as in 10_000 or 1e7."
            )
        found.append(int(n))
    return tuple(found)


def _alone(kernels: list[str], n: int, rounds: int) -> list[Row]:
    """Measure the kernels in a process of their own, so that their memory is free before the next size."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(floors.measure, kernels, n, rounds).result()
