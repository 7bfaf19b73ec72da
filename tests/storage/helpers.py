"""Small stores with known scores, and a process that is gone when the test is over."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting, Loss
from benchmarks.helpers.writer import kill, start


def filled(path: Path | None, *, n: int = 100, keys: list[str] | None = None) -> ScoreStore:
    """A store whose el2n and loss of row i are i, committed once."""
    store = ScoreStore.create(path, n, [EL2N(), Loss(), Forgetting()], keys=keys)
    for name in ("el2n", "loss"):
        store.fold(name, np.arange(n), np.arange(n), epoch=1)
    store.fold("forgetting", np.arange(n), np.arange(n) % 2, epoch=1)
    store.commit("first")
    return store


def three(path: Path) -> ScoreStore:
    """Versions 1, 2 and 3; in version v the loss of row 0 is 10·v."""
    store = filled(path)
    store.fold("loss", [0], [10])
    for version in (2, 3):
        store.fold("loss", [0], [10 * version])
        store.commit(f"note {version}", pin=version == 2)
    return store


@contextmanager
def running(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `code` and has said "open"; killed at the end."""
    process = start(code, *arguments)
    try:
        yield process
    finally:
        kill(process)
