"""From what was asked to a result: which cases, at which sizes, and the rows they give."""

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


@dataclass(frozen=True)
class BenchSettings:
    """What to run. `cases`: parts of names, none for all; `samplers`: a user's own, as module:factory."""

    n: tuple[int, ...]
    cases: tuple[str, ...] = ()
    rounds: int = 5
    samplers: tuple[str, ...] = ()
    quick: bool = False

    def quickly(self) -> "BenchSettings":
        """The same at the smallest size, one turn each: whether it runs."""
        return replace(self, n=(QUICK,), rounds=1, quick=True)


def run(settings: BenchSettings, console: Console) -> dict[str, Any]:
    """Run what `settings` names, smaller sizes first, and print its tables -> the result, as `result.body` makes it.

    Raises InvalidValue for a case that does not exist and for a sampler that yields no rows, before anything runs.
    """
    cases, kernels = chosen(settings.cases)
    sizes = sorted(set(settings.n))
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # a console script does not look for modules where it is called
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
    """The cases and the kernels whose name holds one of `parts`, or all. Raises InvalidValue for a part that none holds."""
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
    """Numbers of rows as people write them: 10_000, 1e7, several with commas between. Raises InvalidValue."""
    found = []
    for text in ",".join(texts).split(","):
        try:
            n = float(text)
        except ValueError:
            n = -1
        if not n >= 1000 or n % 1:  # so that NaN and inf are none either
            raise InvalidValue(f"--n {text}: a whole number of rows, 1000 or more, as in 10_000 or 1e7.")
        found.append(int(n))
    return tuple(found)


def _alone(kernels: list[str], n: int, rounds: int) -> list[Row]:
    """The kernels in a process of their own, so that what they held is gone before the next size."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(floors.measure, kernels, n, rounds).result()
