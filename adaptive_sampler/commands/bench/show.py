"""The run as it is seen in a terminal: progress while it lasts, then the tables."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from adaptive_sampler.commands.bench.result import show, tables


class Watch:
    """Hears what is going on: `told` of every step, `done` of every contest."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def told(self, text: str) -> None:
        """What is being run now."""
        self._progress.update(self._task, description=text)

    def done(self, text: str) -> None:
        """A contest is over; where there is no terminal this line is the progress."""
        self._progress.update(self._task, advance=1)
        if not self._progress.console.is_terminal:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watch(console: Console, contests: int) -> Iterator[Watch]:
    """A line that moves, for as long as the contests last."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Watch(progress, contests)


def tell(console: Console, found: Mapping[str, Any]) -> None:
    """The tables of a result; in a file or a pipe they are as wide as they need."""
    if not console.is_terminal:
        console.width = max(console.width, 180)
    for title, names, rows in tables(found["rows"], found.get("by")):
        table = Table(title=Text(title or found["benchmark"]), title_justify="left", box=SIMPLE_HEAD)
        for name in names:
            numeric = all(not isinstance(row[name], str) or not row[name] for row in rows)
            table.add_column(name, justify="right" if numeric else "left")
        for row in rows:
            table.add_row(*(Text(f"{row[name]:,}" if name == "n" else show(row[name])) for name in names))
        console.print(table)
