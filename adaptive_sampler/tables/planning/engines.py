"""Who runs a pass over the partitions of a table: the threads of this process, or a cluster."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.tables.arrow.sources import Piece, pieces

Found = TypeVar("Found")

# (share, *arguments) -> what it found there: a function of a module, so that another process finds it by its name.
Task = Callable[..., Found]
# What two shares have in common: (found, found) -> found. It may change the first, and the order of shares does not count.
Merge = Callable[[Found, Found], Found]


class TableShare(NamedTuple):
    """Neighbouring partitions of a table, or parts of some, which one call of a task goes through. It can be pickled.

    `first`: the number of the first one; `pieces`: the partitions or parts themselves, in order.
    """

    first: int
    pieces: tuple[Piece, ...]


class Engine(Protocol):
    """Calls a task for every share of a table and merges what the calls return.

    `received`: how many bytes this process received from others in each pass, pickled.
    """

    received: list[int]

    def pieces(self, source: Any) -> list[Piece]:
        """The partitions of a table, as `sources.pieces`."""

    def run(
        self, task: Task[Found], shares: Sequence[TableShare], arguments: tuple[Any, ...], merge: Merge[Found]
    ) -> Found:
        """What `task(share, *arguments)` returns for each of the shares, one or more, merged into one.

        `task`, `merge`: functions of a module. Arguments and results can be pickled, take a few MB at most, and the task
        changes nothing, so that it may be called again where it was lost. An error that a task raises is raised as it is, that
        of the first share if there are several.
        """


def cores() -> int:
    """How many threads read at a time: one a core, and two at least."""
    return max(2, os.cpu_count() or 1)


class ThreadsEngine:
    """Calls tasks in threads of this process: they read and count without the GIL. `threads`: how many; None: one a core."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or cores()
        self.received: list[int] = []

    def pieces(self, source: Any) -> list[Piece]:
        """As `Engine.pieces`."""
        if hasattr(source, "to_arrow_refs"):
            raise InvalidValue(
                'the Dataset lies in a Ray cluster: plan with engine="ray", or write it to Parquet files and pass their folder.'
            )
        return [*pieces(source)]

    def run(
        self, task: Task[Found], shares: Sequence[TableShare], arguments: tuple[Any, ...], merge: Merge[Found]
    ) -> Found:
        """As `Engine.run`. Each thread merges what it finds, so that memory does not grow with the number of shares."""
        self.received.append(0)
        left = iter(enumerate(shares))
        lock = threading.Lock()
        failed: list[tuple[int, BaseException]] = []

        def work() -> list[Found]:
            mine: list[Found] = []
            while True:
                with lock:  # shares are handed out in order, so that those before a failed one are all looked at
                    number, share = next(left, (None, None)) if not failed else (None, None)
                if number is None:
                    return mine
                try:
                    found = task(share, *arguments)
                except BaseException as error:
                    failed.append((number, error))
                    return mine
                mine = [merge(mine[0], found)] if mine else [found]

        number = min(self._threads, len(shares))
        with ThreadPoolExecutor(number) as pool:
            try:
                each = [future.result() for future in [pool.submit(work) for _ in range(number)]]
            except BaseException as error:  # an interrupt: threads end with the share that they are at
                failed.append((len(shares), error))
                raise
        if failed:
            raise min(failed, key=lambda one: one[0])[1]
        return _all(merge, [found for mine in each for found in mine])


def _all(merge: Merge[Found], found: list[Found]) -> Found:
    whole = found[0]
    for more in found[1:]:
        whole = merge(whole, more)
    return whole
