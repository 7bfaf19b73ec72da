"""Small stores with known scores, and the processes that write and kill them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting, Loss

ROWS = 5000


def filled(path: Path | None, *, n: int = 100, keys: list[str] | None = None) -> ScoreStore:
    """A store whose el2n and loss of row i are i, committed once."""
    store = ScoreStore.create(path, n, [EL2N(), Loss(), Forgetting()], keys=keys)
    for name in ("el2n", "loss"):
        store.fold(name, np.arange(n), np.arange(n), epoch=1)
    store.fold("forgetting", np.arange(n), np.arange(n) % 2, epoch=1)
    store.commit("first")
    return store


# Commits version after version; all scores of all rows of version v are v. Says each number before and after.
WRITER = """
import sys, numpy as np
from adaptive_sampler import ScoreStore
store = ScoreStore.open(sys.argv[1])
rows = np.arange(len(store))
print("open", flush=True)
while True:
    value = store.session.files.repository.versions.pointer.highest + 1
    for name in store.names:
        store.fold(name, rows, np.full(len(rows), value), epoch=value)
    assert store.commit(str(value)) == value
    print(value, flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs `code`; waits until it has said "open"."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


@contextmanager
def running(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """As `start`, killed at the end."""
    process = start(code, *arguments)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> list[str]:
    """SIGKILL -> the whole lines that it had said."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    said = process.stdout.read()
    process.stdout.close()
    return said.splitlines()


def kill_while_committing(path: Path, delay: float) -> tuple[int, ScoreStore]:
    """Kill a committing writer after `delay` seconds -> the last version it acknowledged, and the store reopened."""
    process = start(WRITER, path)
    time.sleep(delay)
    said = [int(line) for line in kill(process) if line.isdigit()]
    return max(said, default=0), ScoreStore.open(path)
