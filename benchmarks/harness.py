"""How a benchmark is run and told: contestants in turns, medians, and a result file that says where it comes from."""

import argparse
import hashlib
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "numba", "zarr", "torch", "torchdata", "webdataset")
Row = dict[str, Any]


def options(about: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="the smallest sizes: does it run?")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each contestant gets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result is written")
    return parser


def take_turns(
    contestants: Mapping[str, Callable[[], Any]], rounds: int, *, before: Callable[[], Any] | None = None
) -> dict[str, float]:
    """The median seconds of each, run in turns, so that a noisy machine is noisy for all of them alike.

    One more turn, the first, warms up. `before` is called ahead of each turn and not timed: `os.sync`, where one
    contestant's unwritten pages would be another's wait.
    """
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
    return {name: statistics.median(found) for name, found in times.items()}


def machine() -> dict[str, Any]:
    """What a reader must know to judge the figures."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "load": round(os.getloadavg()[0], 1),
    }


def save(name: str, rows: Sequence[Row], arguments: argparse.Namespace, about: str) -> Path:
    """Print the rows, and write them to `name`.json and `name`.md with the machine, versions and arguments."""
    told = {k: v for k, v in vars(arguments).items() if not isinstance(v, Path)}  # a reader's folders are others
    body = {"benchmark": name, "about": about, "arguments": told, "machine": machine(), "rows": list(rows)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{name}.json"
    path.write_text(json.dumps(body | {"digest": digest(body)}, indent=1, default=str) + "\n")
    path.with_suffix(".md").write_text(markdown(body))
    _print(name, rows)
    return path


def digest(body: Mapping[str, Any]) -> str:
    """Tells a file that `save` wrote from one that was edited."""
    content = {k: v for k, v in body.items() if k != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def markdown(body: Mapping[str, Any]) -> str:
    """The table of a result, for the docs."""
    where = body["machine"]
    lines = [f"<!-- written by benchmarks/{body['benchmark']}.py -->", body["about"], ""]
    for names, rows in alike(body["rows"]):
        lines += ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
        lines += ["| " + " | ".join(show(row[name]) for name in names) + " |" for row in rows]
        lines.append("")
    lines += [
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB; Python {where['python']}, "
        + ", ".join(f"{k} {v}" for k, v in where["versions"].items() if v)
        + f"; commit {where['commit']}; load {where['load']}; {body['arguments']}.",
    ]
    return "\n".join(lines) + "\n"


def alike(rows: Sequence[Row]) -> list[tuple[list[str], list[Row]]]:
    """The rows in runs that have the same columns: a table each."""
    return [(list(names), list(some)) for names, some in itertools.groupby(rows, key=tuple)]


def show(value: Any) -> str:
    """A figure with as many digits as it is worth."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _print(name: str, rows: Sequence[Row]) -> None:
    for names, some in alike(rows):
        table = Table(*names, title=name)
        for row in some:
            table.add_row(*(show(row[key]) for key in names))
        Console(width=None if sys.stdout.isatty() else 160).print(table)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
