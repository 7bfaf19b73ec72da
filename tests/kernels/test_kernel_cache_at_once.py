"""Processes, forks and threads at one cache at once neither crash, spoil it nor hang."""

import os
from pathlib import Path

import pytest

from tests.kernels.processes import FEW, FORKS, ONCE, ended, started

FORKS_AT_ONCE, ROUNDS, INTERPRETERS = 8, 5, 3

# Forks of one process, which has imported all and compiled none of it, are at the cache within the same millisecond.
STAMPEDE = f"""
import os, shutil, sys
import numba
import numpy as np
from adaptive_sampler.kernels import bits

numba.njit(lambda x: x + 1)(1)  # what LLVM sets up once in a process is no part of the race
kept = np.array([0b11111111, 1], np.uint8)

def child(check, start):
    try:
        os.read(start, 1)  # until the parent closes its end: for all of them at once
        right = bits.test(kept, np.array([8, 9])).tolist() == [True, False]
        os._exit(0 if right and (not check or not bits._test.stats.cache_misses) else 1)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(2)

def together(processes, check=False):
    start, end = os.pipe()
    children = []
    for _ in range(processes):
        pid = os.fork()
        if pid == 0:
            os.close(end)
            child(check, start)
        children.append(pid)
    os.close(start), os.close(end)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]

for _ in range({ROUNDS}):
    shutil.rmtree(os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)
    assert together({FORKS_AT_ONCE}) == [0] * {FORKS_AT_ONCE}
    assert together(1, check=True) == [0], "what they left behind is no warm cache"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_start_at_once_on_a_cold_cache_neither_crash_nor_spoil_it(tmp_path: Path) -> None:
    process = started(STAMPEDE, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert all(line.startswith(ONCE) for line in err.splitlines())


def test_fresh_interpreters_that_start_at_once_on_a_cold_cache_leave_a_warm_one(tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for process in [started(FEW, **cache) for _ in range(INTERPRETERS)]:
        ended(process)
    compiled, read = ended(started(FEW, **cache))
    assert compiled == 0
    assert read > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_another_thread_compiles_a_kernel_does_not_hang(tmp_path: Path) -> None:
    process = started(FORKS, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert process.communicate(timeout=300)[0] == "ok 0 0\n"
