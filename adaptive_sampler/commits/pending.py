"""A commit that is being written while the training goes on."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from adaptive_sampler.storage.generation import Manifest
from adaptive_sampler.storage.taken_version import TakenVersion


class PendingCommit:
    """What `ScoreStore.commit(wait=False)` returns.

    The store goes on from the new version once `result` was called, or by itself at its next commit, at the state of a
    sampler, or when it is closed: these wait for the commit, and raise its error, if it failed.
    """

    def __init__(self, taken: TakenVersion, updates: int, keep: int | None, settle: Callable[[], None]) -> None:
        """`updates`, `keep`: of the commit, for the session. `settle()`: has the store go on from the version."""
        self.taken, self.updates, self.keep, self._settle = taken, updates, keep, settle
        self._written: Future[Manifest] = Future()
        # No daemon: a process that ends waits for it.
        threading.Thread(target=self._write, name="adaptive-sampler-commit").start()

    def _write(self) -> None:
        try:
            self._written.set_result(self.taken.write())
        except BaseException as error:
            self._written.set_exception(error)

    def done(self) -> bool:
        """Whether the commit has ended, well or not."""
        return self._written.done()

    def result(self, timeout: float | None = None) -> int:
        """The number of the version, once it is written; see `ScoreStore.commit` for its errors.

        `timeout`: seconds after which `TimeoutError` is raised, and the commit goes on; None: never.
        """
        if wait([self._written], timeout).not_done:
            raise TimeoutError(f"the commit is not written after {timeout} s. It goes on: ask again.")
        self._settle()
        return self.manifest().version

    def manifest(self) -> Manifest:
        """What was written. Waits for the commit, and raises its error. For the session."""
        wait([self._written])  # an interrupt ends this, and nothing else
        return self._written.result()
