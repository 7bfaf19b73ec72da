"""Show how far a long call has come: as a bar, by calling a function of the user's, or not at all."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

Show = bool | Callable[[int, int | None], None] | None
"""True: a bar on stderr. None: a bar if stderr is a terminal. False: nothing. A function: called with (done, of)."""


class Tell(Protocol):
    """Reports progress: `done` steps of `of` are done (None: the total is not known), and `what` is being done now."""

    def __call__(self, done: int, of: int | None, what: str | None = None) -> None: ...


@contextlib.contextmanager
def shown(show: Show, what: str) -> Iterator[Tell]:
    """Give the block a `Tell` and show what it reports, in the way that `show` asks for.

    `what`: the title of the bar. Raises `ImportError` if a bar is wanted and rich is not installed.
    """
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
        from rich import progress  # optional: only some extras of this package install it
        from rich.console import Console
    except ImportError as error:
        raise ImportError('a progress bar needs rich: pip install "adaptive-sampler[report]"', name="rich") from error
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    console = Console(stderr=True)
    with progress.Progress(
        *columns,
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=console.is_terminal,
    ) as bar:
        task = bar.add_task(what, total=None)

        def tell(done: int, of: int | None, what: str | None = None) -> None:
            bar.update(task, completed=done, total=of, description=what)

        yield tell
