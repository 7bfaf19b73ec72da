"""Numba's cache of compiled kernels: read where it is warm, compiled anew where it is damaged or the sources have changed."""

import shutil
from pathlib import Path

import pytest

import adaptive_sampler
from tests import references
from tests.kernels.processes import ALWAYS, COUNT, ONE, ended, started

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


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds one kernel; for copies of it."""
    folder = tmp_path_factory.mktemp("warm")
    assert ended(started(ONE, NUMBA_CACHE_DIR=str(folder))) == (1, 0)
    return folder


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


def test_what_is_compiled_ahead_is_all_that_a_training_calls() -> None:
    """By the types that kernels are called with, as both read a warm cache, or warm it."""
    ahead, training = (
        {line for line in started(code + TYPES).communicate(timeout=600)[0].splitlines() if not line.startswith("ok")}
        for code in (AHEAD, TRAINING + TABLE_PLANS)
    )
    assert len(training) > 20
    assert sorted(training - ahead) == []


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
