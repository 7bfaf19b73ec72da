"""Opens shards and reads ranges ahead of whoever takes them: in threads, across shards, a bounded number and size."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from adaptive_sampler.shards.sources.base import Source
from adaptive_sampler.shards.sources.crew import Crew, Task

T = TypeVar("T")
_OPENED = 8  # shards that are opened ahead of the one whose ranges are asked for
_AHEAD = 2  # ranges for each that may be under way, so that one that comes late holds up none behind it


@dataclass(frozen=True)
class Due(Generic[T]):
    """What comes in its turn: `finish` yields it, given the task that does `start` in a thread.

    start: None if nothing is to be read ahead; then `finish` gets None. size: the bytes that `start` reads.
    """

    finish: Callable[[Task | None], Iterator[T]]
    start: Callable[[], Any] | None = None
    size: int = 0


class Job(Protocol[T]):
    """A shard that is to be read."""

    def first(self) -> Callable[[], Source] | Source | None:
        """What opens it in a thread, the source if its reads do that, None if that is not to be done ahead."""

    def rest(self, opened: Source | Exception | None) -> Iterator[Due[T]]:
        """What is due of it, once that was done: the source, or the error; None if `first` gave None."""


class Flight(Generic[T]):
    """Iterates over what the jobs yield, in order. Its threads begin with the first draw and end with the iteration, or with the
    request that they are at: see `Crew`.

    A thread that is done takes the next range at once, whether or not its turn to be taken has come.

    threads: requests that are under way at most; as many of them are used as a source says (`Source.parallel`).
    most: bytes of requests that are under way or have arrived, if there is more than one.
    """

    def __init__(self, jobs: Iterator[Job[T]], threads: int, most: int) -> None:
        self._jobs, self._threads, self._most = jobs, threads, most
        self._opening: deque[tuple[Job[T], Task | Source | None]] = deque()
        self._rest: Iterator[Due[T]] = iter(())
        self._source: Source | None = None

    def __iter__(self) -> Iterator[T]:
        ahead: deque[tuple[Due[T], Task | None]] = deque()
        held = 0
        with Crew(min(_OPENED, self._threads)) as crew:
            while True:
                while not ahead or (held < self._most and len(ahead) < _AHEAD * self._width()):
                    due = self._next(crew, wait=not ahead)
                    if due is None:
                        break
                    crew.most = self._width()
                    ahead.append((due, None if due.start is None else crew.give(due.start)))
                    held += due.size
                if not ahead:
                    return
                due, read = ahead.popleft()
                yield from due.finish(read)
                held -= due.size

    def _width(self) -> int:
        return 1 if self._source is None else min(self._source.parallel + 1, self._threads)

    def _next(self, crew: Crew, wait: bool) -> Due[T] | None:
        """What is due next; None if there is nothing more, or if it is not known yet and nobody is to wait."""
        while True:
            if (due := next(self._rest, None)) is not None:
                return due
            while len(self._opening) < _OPENED and (job := next(self._jobs, None)) is not None:
                first = job.first()
                self._opening.append((job, crew.give(first) if callable(first) else first))
            if not self._opening:
                return None
            job, opening = self._opening[0]
            if isinstance(opening, Task) and not (wait or opening.done()):
                return None
            self._opening.popleft()
            opened = opening.outcome() if isinstance(opening, Task) else opening
            self._source = None if isinstance(opened, Exception) else opened
            self._rest = job.rest(opened)
