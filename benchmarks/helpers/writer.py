"""A process that commits version after version, and is killed while it does: does the store still open, and at what?"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from adaptive_sampler import ScoreStore

ROWS = 5000  # of the store that is written; few, so that most of the time is spent in commits

# All scores of all rows of version v are v. It says "open", then each version's number once it is committed.
WRITER = """
import sys, numpy as np
from adaptive_sampler import ScoreStore
store = ScoreStore.open(sys.argv[1])
rows = np.arange(len(store))
print("open", flush=True)
while True:
    value = store.version + 1
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
