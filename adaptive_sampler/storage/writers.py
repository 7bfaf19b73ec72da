"""Threads that write the objects of a version; imported late, as only a commit of several files needs them."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


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
