"""Numba's cache of compiled kernels: shared by processes that start at once, read where warm, and missed by nobody where
absent; and the one line that a user reads who has to wait."""

import os
import shutil
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest

import adaptive_sampler
from tests import references

ROOT = Path(adaptive_sampler.__file__).parents[1]
FORKS_AT_ONCE, ROUNDS, INTERPRETERS = 8, 5, 3
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

# What a training asks for: updates from logits, plans of several kinds, and their epochs -> the count.
TRAINING = f"""
import sys
import numpy as np
from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N, Entropy, Forgetting, Loss, Margin
from adaptive_sampler.selection import Draw, InfoBatch, KeepAll, Prune, Upsample, Window

store = ScoreStore.create(None, 1000, [EL2N(), Entropy(), Forgetting(), Loss(), Margin()])
store.update(np.arange(1000), logits=np.random.default_rng(0).normal(size=(1000, 3)), labels=np.arange(1000) % 3)
draws = Draw("loss", 1000, replacement=True), Draw("loss", 500, replacement=False)
for policy in (KeepAll(), Prune(0.5, "el2n"), Window(0.5, 0.1, "el2n"), Upsample(3, "forgetting"), InfoBatch(epochs=9), *draws):
    sampler = AdaptiveSampler(store, policy)
    assert sum(map(len, sampler.batches(256))) == len(sampler)
{COUNT}"""

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

# One kernel -> the same words, of that kernel.
ONE = """
import numpy as np
from adaptive_sampler.kernels import bits

assert bits.test(np.array([0b11111111, 1], np.uint8), np.array([8, 9])).tolist() == [True, False]
print("ok", sum(bits._test.stats.cache_misses.values()), sum(bits._test.stats.cache_hits.values()))
"""

# After it, a kernel made of that one, and of what Numba must load in order to compile.
PART = """
import sys
from adaptive_sampler.kernels.jit import kernel

@kernel
def share(bits, rows, out):
    bits_of(bits, rows, out)
    return out.astype(np.float64).mean()

bits_of, out = bits._test, np.empty(2, np.bool_)
assert "numba.np.linalg" not in sys.modules
assert share(np.array([0b11111111, 1], np.uint8), np.array([7, 9]), out) == 0.5
assert "numba.np.linalg" in sys.modules
"""

# A kernel that calls one of another file.
CALLER = f"""
import numpy as np
from adaptive_sampler.kernels.window import window_order

assert window_order(5, 5, np.uint64(1)).tolist() == EXPECTED
{COUNT}"""

# What `adaptive-sampler compile` runs; and of it one kernel alone.
AHEAD = """
import sys
from adaptive_sampler.commands import compile

compile.run(progress=False)
"""
ONE_AHEAD = """
import numpy as np
from adaptive_sampler.commands import compile
from adaptive_sampler.kernels import bits

compile._steps = lambda folder: [("a bit", lambda: bits.test(np.array([1], np.uint8), np.array([0])))]
compile.run(progress=False)
"""

# A plan of Parquet files, which are written anew.
TABLE_PLANS = """
import sys, tempfile
from pathlib import Path
import numpy as np, pyarrow as pa
from pyarrow import parquet
from adaptive_sampler.selection import Draw, Prune, RandomPrune, Window
from adaptive_sampler.tables import plan_table

rows = np.arange(999)
with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as plans:
    for part in range(3):
        some = rows[part::3]
        columns = {"id": some, "key": [f"k{i}" for i in some], "loss": (some % 7).astype(np.float32), "source": some % 2}
        table = pa.table(columns | {"name": [f"{i % 2}" for i in some]})
        parquet.write_table(table, Path(folder, f"{part}.parquet"))
    for key in ("id", "key"):
        for group in (None, "source", "name"):
            half = Prune(0.5, "loss", per_group=group), Window(0.5, 0.2, "loss", per_group=group)
            for policy in (*half, Draw("loss", 0.5, per_group=group), RandomPrune(0.5, per_group=group)):
                plan = plan_table(folder, policy, key=key)
                plan.write(Path(plans, f"{plan.id}-{key}"))
"""

# The types that each kernel was called with from Python.
TYPES = """
from adaptive_sampler.kernels.jit import Kernel

for module in [module for name, module in sys.modules.items() if name.startswith("adaptive_sampler.kernels")]:
    for name, value in vars(module).items():
        if isinstance(value, Kernel) and value.compiled:
            for types in value._made().signatures:
                print(value.__module__, name, types)
"""

FULL_DISK = """
import errno, numba.core.caching

def full(self, *arguments):
    raise OSError(errno.ENOSPC, "No space left on device")

numba.core.caching.IndexDataCacheFile._save_index = full
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


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds one kernel; for copies of it."""
    folder = tmp_path_factory.mktemp("warm")
    assert ended(started(ONE, NUMBA_CACHE_DIR=str(folder))) == (1, 0)
    return folder


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    """The package in a folder where no cache can be written, not even by root: a file stands in each cache's place."""
    package = tmp_path / "site" / "adaptive_sampler"
    shutil.copytree(Path(adaptive_sampler.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__pycache__").write_text("")
    return package.parent


def test_a_kernel_is_compiled_anew_when_a_callee_in_another_file_has_changed(tmp_path: Path) -> None:
    package = tmp_path / "adaptive_sampler"
    shutil.copytree(Path(adaptive_sampler.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    before = f"EXPECTED = {references.window_order(5, 5, 1)}{CALLER}"
    assert ended(started(before, tmp_path, **cache)) > (0, 0)
    assert ended(started(before, tmp_path, **cache)) == (0, 1)
    callee = package / "kernels" / "splitmix.py"
    callee.write_text(callee.read_text().replace("return x ^ (x >> 31)", "return x ^ x"))
    changed = f"EXPECTED = [0, 4, 3, 2, 1]{CALLER}"  # by the number 0 each time: the first of those held, then the last
    assert ended(started(changed, tmp_path, **cache)) > (0, 0)
    assert ended(started(changed, tmp_path, **cache)) == (0, 1)


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


def test_an_install_that_cannot_be_written_works_without_any_cache_and_says_so_once(read_only: Path) -> None:
    _, read = ended(started(FEW, read_only, HOME=os.devnull), ALWAYS)
    assert read == 0


def test_a_folder_named_by_the_environment_is_the_remedy_where_none_can_be_written(
    read_only: Path, tmp_path: Path
) -> None:
    elsewhere = {"HOME": os.devnull, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert ended(started(ONE, read_only, **elsewhere), f"{ONCE}{tmp_path / 'cache'}") == (1, 0)
    assert ended(started(ONE, read_only, **elsewhere)) == (0, 1)


WORKERS = f"""
import multiprocessing

for method in ("fork", "spawn"):
    worker = multiprocessing.get_context(method).Process(target=exec, args=({ONE!r}, {{}}))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
"""


def test_a_worker_says_nothing_of_what_it_compiles(tmp_path: Path) -> None:
    process = started(WORKERS, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")


def test_the_line_goes_through_logging_where_it_can_be_turned_off(tmp_path: Path) -> None:
    off = "import logging; logging.getLogger('adaptive_sampler').setLevel(logging.ERROR)"
    process = started(f"{off}{ONE}", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    out, err = process.communicate(timeout=300)
    assert (out, err) == ("ok 1 0\n", "")


def test_what_is_compiled_ahead_is_all_that_a_training_calls() -> None:
    """By the types that kernels are called with, as both read a warm cache, or warm it."""
    ahead, training = (
        {line for line in started(code + TYPES).communicate(timeout=600)[0].splitlines() if not line.startswith("ok")}
        for code in (AHEAD, TRAINING + TABLE_PLANS)
    )
    assert len(training) > 20
    assert sorted(training - ahead) == []


def test_an_install_that_cannot_be_written_uses_a_warm_cache_in_the_home(read_only: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    compiled, _ = ended(started(FEW, read_only, HOME=str(tmp_path / "home")))
    assert compiled > 0
    again, read = ended(started(FEW, read_only, HOME=str(tmp_path / "home")))
    assert again == 0
    assert read > 0


def test_a_warm_cache_is_read_without_loading_what_numba_compiles_with() -> None:
    ended(started(TRAINING))  # the cache beside the package is warm, or is from now on
    compiled, read = ended(started(f"{TRAINING}assert 'numba.np.linalg' not in sys.modules"))
    assert compiled == 0
    assert read > 15


def test_a_kernel_read_from_the_cache_can_be_part_of_one_that_is_compiled(warm: Path) -> None:
    assert ended(started(ONE + PART, NUMBA_CACHE_DIR=str(warm)), ALWAYS) == (0, 1)  # of a string nothing is kept


@pytest.mark.parametrize("damaged", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("left", [b"", b"no pickle", b"\x80\x04K"])
def test_a_damaged_cache_is_compiled_anew_and_whole_afterwards(
    warm: Path, tmp_path: Path, damaged: str, left: bytes
) -> None:
    shutil.copytree(warm, tmp_path / "cache")
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    files = [*(tmp_path / "cache").rglob(damaged)]
    assert files
    for file in files:
        file.write_bytes(left)
    assert ended(started(ONE, **cache)) == (1, 0)
    assert ended(started(ONE, **cache)) == (0, 1)


def test_a_disk_without_room_for_a_cache_ends_no_call(tmp_path: Path) -> None:
    process = started(FULL_DISK + ONE, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert process.communicate(timeout=300)[0] == "ok 1 0\n"


def test_compiling_ahead_onto_a_disk_without_room_is_an_error(tmp_path: Path) -> None:
    process = started(FULL_DISK + ONE_AHEAD, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    err = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    assert "No space left on device. Set NUMBA_CACHE_DIR to a folder that can" in err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_another_thread_compiles_a_kernel_does_not_hang(tmp_path: Path) -> None:
    process = started(FORKS, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert process.communicate(timeout=300)[0] == "ok 0 0\n"
