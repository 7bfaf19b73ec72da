"""Threads that work ahead of whoever takes the results, and that nobody waits for when the rest is no longer wanted."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

_GRACE = 1.0  # seconds that who leaves waits for answers under way: most have come by then
_OWN = threading.local()  # .left of a crew's thread: set when nobody wants its result any more


class Task:
    """Some work, and what came of it: its result, or its error."""

    __slots__ = ("_found", "_open", "_raised", "_work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work, self._open, self._raised = work, threading.Lock(), False
        self._found: Any = None
        self._open.acquire()

    def run(self) -> None:
        """Do the work, in a thread."""
        try:
            self._found = self._work()
        except BaseException as error:
            self._found, self._raised = error, True
        self._open.release()

    def done(self) -> bool:
        """Whether `outcome` returns at once."""
        return not self._open.locked()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether `outcome` returns at once."""
        came = self._open.acquire(timeout=seconds)
        if came:
            self._open.release()
        return came

    def outcome(self) -> Any:
        """What the work returned, or its error, as soon as there is one. Raises what is no Exception, as a panic of Rust's."""
        with self._open:
            if self._raised and not isinstance(self._found, Exception):
                raise self._found
            return self._found

    def result(self) -> Any:
        """What the work returned, as soon as there is something. Raises its error."""
        found = self.outcome()
        if isinstance(found, Exception) and self._raised:
            raise found
        return found


class Crew:
    """Up to `most` threads that do what is given to them, in order; they begin when they are needed.

    At the end of a `with` block, what has not begun is dropped, what is under way is not tried again, and only threads that
    are done within a second are waited for: a server may be silent for long. Belongs to one thread, which may change `most`.
    """

    def __init__(self, most: int) -> None:
        self.most, self._left = most, threading.Event()
        self._threads: list[threading.Thread] = []
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._counting, self._undone = threading.Lock(), 0

    def give(self, work: Callable[[], Any]) -> Task:
        """Have `work` done. Where the system has no thread for it, those that there are do it; without any, who gives it does."""
        task = Task(work)
        with self._counting:
            self._undone += 1
            busy = self._undone > len(self._threads)
        if busy and len(self._threads) < self.most:
            self._begin()
        if self._threads:
            self._tasks.put(task)
        else:
            self._do(task)
        return task

    def _begin(self) -> None:
        thread = threading.Thread(target=self._serve, name="shards", daemon=True)
        with suppress(RuntimeError):  # can't start new thread
            thread.start()
            self._threads.append(thread)

    def _serve(self) -> None:
        _OWN.left = self._left
        while (task := self._tasks.get()) is not None and not self._left.is_set():
            self._do(task)

    def _do(self, task: Task) -> None:
        task.run()
        with self._counting:
            self._undone -= 1

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        for _each in self._threads:
            self._tasks.put(None)
        end = time.monotonic() + _GRACE
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))


def rest(seconds: float) -> bool:
    """Sleep; whether the result is still wanted: in a crew's thread that is left, False, at once."""
    left: threading.Event | None = getattr(_OWN, "left", None)
    if left is None:
        time.sleep(seconds)
        return True
    return not left.wait(seconds)


def still_wanted() -> bool:
    """Whether the result is still wanted of whoever works here: in a crew's thread that is left it is not."""
    left: threading.Event | None = getattr(_OWN, "left", None)
    return left is None or not left.is_set()
