"""Threads that write and read the objects of a version; imported late, as only several files in an object store need them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Writers(ThreadPoolExecutor):
    """A pool that does the work itself once the interpreter ends, when no pool takes any: a commit may still be under way."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """As `ThreadPoolExecutor.submit`."""
        try:
            return super().submit(work, *arguments, **named)
        except RuntimeError:
            done: Future[Any] = Future()
            try:
                done.set_result(work(*arguments, **named))
            except Exception as error:
                done.set_exception(error)
            return done


class WritesAhead:
    """The writes of one commit, in threads. Objects of `most` bytes at most are on their way, or one larger object.

    So a commit holds copies of a few chunks, however slow the place is.
    """

    def __init__(self, threads: int, most: int) -> None:
        self._pool, self._most = Writers(threads, "adaptive-sampler-commit"), most
        self._begun: deque[tuple[Future[None], int]] = deque()
        self._bytes = 0  # of these

    def add(self, size: int, write: Callable[..., None], *arguments: Any) -> None:
        """Begin a write of `size` bytes, once there is room for it. Raises what an earlier one raised."""
        self._wait(self._most - size)
        self._begun.append((self._pool.submit(write, *arguments), size))
        self._bytes += size

    def finish(self) -> None:
        """Wait until all is written. Raises what a write raised."""
        self._wait(-1)

    def map(self, work: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Call `work` with each item, in the threads, and wait for all. Raises what one raised."""
        list(self._pool.map(work, items))

    def close(self) -> None:
        """End the threads, when all is written: none may stay, as forking a process with threads is not safe."""
        self._pool.shutdown()

    def _wait(self, most: int) -> None:
        """Wait until no more than `most` bytes are still to be written, or none are. Raises what a write raised."""
        while self._begun and self._bytes > most:
            written, size = self._begun.popleft()
            self._bytes -= size
            written.result()


def in_order(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Iterator[Result]:
    """What `work` makes of each item, in order; so many threads are at it, and as many results wait at most.

    When it ends, or is no longer wanted, its threads have ended too: forking a process with threads is not safe.
    """
    begun: deque[Future[Result]] = deque()
    with Writers(min(threads, len(items)), "adaptive-sampler-read") as pool:
        try:
            for item in items:
                if len(begun) == threads:
                    yield begun.popleft().result()
                begun.append(pool.submit(work, item))
            while begun:
                yield begun.popleft().result()
        finally:
            for one in begun:
                one.cancel()
