"""What every benchmark shares: its options, and a result file that says where it comes from."""

import argparse
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from adaptive_sampler.commands.bench import result, show
from adaptive_sampler.commands.bench.base import Row

RESULTS = Path(__file__).parent / "results"
CONSOLE = Console()


def options(about: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="the smallest sizes: does it run?")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each contestant gets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result is written")
    return parser


def save(name: str, rows: Sequence[Row], arguments: argparse.Namespace, about: str) -> Path:
    """Print the rows, and write them to `name`.json and `name`.md with the machine, versions and arguments -> a path."""
    found = result.body(name, rows, vars(arguments), about)
    show.tell(CONSOLE, found)
    return result.write(found, arguments.out)


def alone(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Call `measure(*arguments)` in a process of its own, because a peak of memory never falls again.

    It is a fork of this one: call this before anything has run here, so that libraries are all that the process begins with.
    """
    context = get_context("fork")
    found, told = context.Pipe(duplex=False)
    process = context.Process(target=lambda: told.send(measure(*arguments)))
    process.start()
    told.close()
    try:
        return found.recv()  # EOFError if it has failed, and said why
    finally:
        process.join()
