"""Processes that call kernels, and say how many of them they compiled and how many they read from Numba's cache."""

import os
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import adaptive_sampler
from tests import references

ROOT = Path(adaptive_sampler.__file__).parents[1]
ONCE = "adaptive_sampler compiles its kernels once (10 to 20 s in all); later runs load them from "
ALWAYS = (
    "adaptive_sampler compiles its kernels in every process (10 to 20 s in all): no folder for them can be written."
)

# "ok", how many kernels were compiled, and how many were read from the cache.
COUNT = """
import sys
from adaptive_sampler.kernels.jit import Kernel

kernels = {
    id(value): value.stats
    for name, module in list(sys.modules.items()) if name.startswith("adaptive_sampler")
    for value in vars(module).values() if isinstance(value, Kernel) and value.compiled
}.values()
print("ok", sum(sum(s.cache_misses.values()) for s in kernels), sum(sum(s.cache_hits.values()) for s in kernels))
"""

# A few kernels of two files -> the count.
FEW = f"""
import numpy as np
from adaptive_sampler.kernels import bits, splitmix

assert splitmix.number(np.uint64(1), 2) == {references.numbered(1, 2)}
assert bits.count(np.array([0b11111111, 1], np.uint8)) == 9
assert bits.test(np.array([0b11111111, 1], np.uint8), np.array([8, 9])).tolist() == [True, False]
{COUNT}"""

# One kernel -> the same words, of that kernel.
ONE = """
import numpy as np
from adaptive_sampler.kernels import bits

assert bits.test(np.array([0b11111111, 1], np.uint8), np.array([8, 9])).tolist() == [True, False]
print("ok", sum(bits._test.stats.cache_misses.values()), sum(bits._test.stats.cache_hits.values()))
"""

# A fork amid another thread's first call (which imports Numba), and amid one that is compiled for other types.
FORKS = """
import os, signal, sys, threading, time
import numpy as np
from adaptive_sampler.kernels.jit import kernel

@kernel
def total(values):
    found = 0
    for value in values:
        for other in values:
            found += value * other
    return found

def fork_while_a_thread_calls(dtype, others):
    thread = threading.Thread(target=total, args=(np.ones(3, dtype),))
    thread.start()
    time.sleep(0.03)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # ends a child that hangs
        os._exit(0 if total(np.ones(3, others)) == 9 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    thread.join()

assert "numba" not in sys.modules
fork_while_a_thread_calls(np.int64, np.int64)
fork_while_a_thread_calls(np.float32, np.float64)
print("ok 0 0")
"""


def started(code: str, root: Path = ROOT, **environment: str) -> "subprocess.Popen[str]":
    """Python in a process of its own, warnings being errors."""
    env = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    env |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.Popen(command, env=env, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: "subprocess.Popen[str]", says: str = "") -> tuple[int, int]:
    """(compiled, read from the cache) of a process that ended well. It said, in one line, that it `says`; by default, that it
    compiles once if anything was compiled, and else nothing."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    ok, compiled, read = out.split()
    assert ok == "ok"
    wanted = [says or ONCE] if says or int(compiled) else []
    assert [line[: len(word)] for line, word in zip_longest(err.splitlines(), wanted, fillvalue="")] == wanted
    return int(compiled), int(read)
