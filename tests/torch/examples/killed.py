"""Runs a script on ranks, kills all of its processes at once, and runs it again: for tests of the full examples."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptive_sampler import ScoreStore

at_length = pytest.mark.skipif(os.environ.get("RESUME") != "all", reason="`make resume` runs it, which may take hours")
ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "docs" / "examples"
LIMIT = 120.0  # seconds that a run may take, on a machine that is busy


class Run:
    """A script, begun on `ranks` processes under torchrun, or as one process without it. `arguments`: the script's own.

    Every process of the run has a mark in its environment, by which `kill` finds it: torchrun gives each rank a session
    of its own, and a rank's workers outlive it for a while.
    """

    def __init__(self, script: Path, *arguments: str | Path, ranks: int = 1) -> None:
        mark = uuid.uuid4().hex
        self._mark = f"KILLED_RUN={mark}".encode()
        own = {"KILLED_RUN": mark, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        alone = {name: text for name, text in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
        ranked = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
        self._printed = tempfile.TemporaryFile("w+")  # noqa: SIM115  a pipe that nobody reads would stop the run
        # Nicely, so that whoever waits for a moment to kill it sees that moment, on a machine that is busy too.
        self._process = subprocess.Popen(
            ["nice", "-n", "10", sys.executable, *ranked, str(script), *map(str, arguments)],
            env=alone | own,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
        )

    def output(self) -> str:
        """Wait for the end of the run -> what it printed. Fails unless it ended well."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LIMIT)
        ended_well = self._process.poll() == 0
        printed = self.kill()
        assert ended_well, printed
        return printed

    def kill_when(self, reached: Callable[[], object]) -> None:
        """Kill all processes at once, as soon as `reached()` is true. Fails if the run ends before that."""
        limit = time.monotonic() + LIMIT
        came = bool(reached())
        while not came and self._process.poll() is None and time.monotonic() < limit:
            time.sleep(0.002)
            came = bool(reached())
        printed = self.kill()
        assert came, f"the moment to kill did not come:\n{printed}"

    def kill(self) -> str:
        """SIGKILL to every process of the run, and to those that these have begun meanwhile -> what was printed."""
        while ours := [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if self._has_mark(pid)]:
            for pid in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        self._process.wait()
        with self._printed:
            self._printed.seek(0)
            return self._printed.read()

    def _has_mark(self, pid: int) -> bool:
        with contextlib.suppress(OSError):  # it has gone, or is somebody else's
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False


def a_little_later(reached: Callable[[], object], rng: random.Random) -> Callable[[], bool]:
    """Whether `reached()` is true, told some milliseconds late: in a step, a commit, a write."""
    wait = rng.uniform(0, 0.05)

    def later() -> bool:
        if not reached():
            return False
        time.sleep(wait)
        return True

    return later


def result(folder: Path) -> tuple[list[bytes], bytes, list[int]]:
    """The weights, the scores and how often each row was counted, exactly."""
    weights = [tensor.numpy().tobytes() for tensor in torch.load(folder / "final.pt").values()]
    with ScoreStore.open(folder / "scores.zarr", mode="r") as store:
        return weights, store["el2n"].tobytes(), store.count("el2n").tolist()
