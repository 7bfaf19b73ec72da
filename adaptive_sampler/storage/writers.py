"""Threads that write and read the objects of a version; imported late, as only several files in an object store need them."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
