"""How far a long call has come: shown as a bar, told to a function of the user's, or neither."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

Show = bool | Callable[[int, int | None], None] | None
"""True for a bar on stderr, None for one where stderr is a terminal, False for none, or a function of (done, of)."""


class Tell(Protocol):
    """Tells that `done` steps of `of` are done (None: nobody knows how many there are), and `what` is going on."""

    def __call__(self, done: int, of: int | None, what: str | None = None) -> None: ...


@contextlib.contextmanager
def shown(show: Show, what: str) -> Iterator[Tell]:
    """Show what the block tells, as `show` says. Raises `ImportError` where a bar is wanted and rich is not installed."""
    if callable(show):
        yield lambda done, of, what=None: show(done, of)
    elif sys.stderr.isatty() if show is None else show:
        with _bar(what) as tell:
            yield tell
    else:
        yield lambda done, of, what=None: None


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Tell]:
    try:
        from rich import progress  # an extra
        from rich.console import Console
    except ImportError as error:
        raise ImportError('a progress bar needs rich: pip install "adaptive-sampler[report]"', name="rich") from error
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    console = Console(stderr=True)
    with progress.Progress(
        *columns, progress.TimeElapsedColumn(), console=console, transient=console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)

        def tell(done: int, of: int | None, what: str | None = None) -> None:
            bar.update(task, completed=done, total=of, description=what)

        yield tell
