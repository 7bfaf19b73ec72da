"""A Numba that has renamed what kernels rely on costs speed and one warning, and never a result or an error."""

import os
import re
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from adaptive_sampler.kernels import private
from adaptive_sampler.kernels.jit import kernel
from tests import references
from tests.kernels.processes import FORKS, started

# Numba and llvmlite as they would be had each match of WORD another name, in all of their files.
RENAMED = """
import re, sys, warnings
from importlib.machinery import PathFinder, SourceFileLoader

class Renamed(SourceFileLoader):
    def get_code(self, name):
        source = self.get_source(name)
        changed = re.sub(WORD, lambda found: "renamed_" + found[0], source)
        return super().get_code(name) if changed == source else self.source_to_code(changed, self.path)

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] not in ("numba", "llvmlite"):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec and type(spec.loader) is SourceFileLoader:
            spec.loader = Renamed(spec.loader.name, spec.loader.path)
        return spec

sys.meta_path.insert(0, Finder)
warnings.simplefilter("always")
"""

# A kernel that calls a kernel; and one that calls an instruction, and is called twice.
USE = f"""
import numpy as np
from adaptive_sampler.kernels import bits, splitmix

assert "numba" not in sys.modules
assert splitmix.number(np.uint64(1), 2) == {references.numbered(1, 2)}
assert bits.count(np.full(10_000, 1, np.uint8)) == 10_000
assert bits.count(np.full(10_000, 3, np.uint8)) == 20_000
"""

# Without one of these, which nobody may notice, nothing would be read from disk, or no fault of the disk be forgiven.
SILENT = ["_cache", "_load_overload", "load_overload", "save_overload", "flush", "initialize"]
# Without one of these, the first call of a kernel would raise.
LOUD = [
    "FunctionCache",
    "_cache_file",
    "_source_stamp",
    "rtsys",
    "global_compiler_lock",
    "acquire",
    "cpu_target",
    "resolve_value_type",
    "_numba_type_",
    "intrinsic",
    "ctpop",
]
# Names that others have too: where they are those that kernels rely on.
WHERE = {
    "flush": r"(?<=def )flush(?=\(self\):(?!\s+\"\"\"\s+Emit))|(?<=_cache_file\.)flush\b",
    "acquire": r"(?<=self\.)acquire\b|(?<=def )acquire\b",
    "initialize": r"(?<=rtsys\.)initialize\b|(?<=def )initialize(?=\(self, ctx)",
}


def warned(name: str, use: str, cache: Path) -> str:
    """What is said in a process of its own that ends well, where Numba has another name."""
    word = WHERE.get(name, rf"\b{name}\b")
    process = started(f"WORD = {word!r}{RENAMED}{use}", NUMBA_CACHE_DIR=str(cache))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err


def assert_says_once_what_is_missing(said: str, name: str) -> None:
    assert said.count("Warning") == 1
    assert re.search(rf"RuntimeWarning: Numba {re.escape(numba.__version__)} .*\b{name}\b", said)
    assert f"pip install 'numba<{private.UNTESTED}'" in said


@pytest.mark.parametrize("name", SILENT)
def test_a_renamed_name_whose_absence_is_silent_is_said_and_nothing_is_kept(name: str, tmp_path: Path) -> None:
    assert_says_once_what_is_missing(warned(name, USE, tmp_path), name)
    assert not [*tmp_path.rglob("*.nb?")]


@pytest.mark.parametrize("name", LOUD)
def test_a_renamed_name_whose_absence_would_raise_is_said_and_nothing_fails(name: str, tmp_path: Path) -> None:
    assert_says_once_what_is_missing(warned(name, USE, tmp_path), name)


def test_the_same_rows_are_selected_where_llvm_has_no_vectors(tmp_path: Path) -> None:
    expected = references.rank_window(np.zeros(150), 20, 90, salt=3, ties="random").tolist()
    use = f"from adaptive_sampler.kernels import select\nassert select.hash_window(150, 20, 90, salt=3).tolist() == {expected}"
    assert "has no attribute 'VectorType'" in warned("VectorType", use, tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_without_numbas_lock_a_child_forked_while_another_thread_compiles_does_not_hang(tmp_path: Path) -> None:
    said = warned("global_compiler_lock", FORKS, tmp_path)
    assert said.count("Warning") == 1


def test_where_nothing_is_compiled_nothing_is_said() -> None:
    code = "import numpy as np\nfrom adaptive_sampler.kernels import bits\nbits.test(np.array([1], np.uint8), np.array([0]))"
    assert started(code, NUMBA_DISABLE_JIT="1").communicate(timeout=300) == ("", "")


def test_arguments_that_no_kernel_could_take_are_refused_as_numba_refuses_them() -> None:
    with pytest.raises(TypingError, match="unknown attribute 'nothing'"):
        kernel(lambda values: values.nothing)(1.0)


def test_a_kernel_that_ran_out_of_memory_is_not_begun_a_second_time() -> None:
    began = []

    class OutOfMemory:
        def __call__(self) -> None:
            began.append(1)
            raise MemoryError

    half_done = kernel(lambda: None)
    half_done._made = half_done.plain = OutOfMemory
    with pytest.raises(MemoryError):
        half_done()
    assert began == [1]


def test_the_remedy_names_a_release_above_the_one_that_is_tested_now() -> None:
    now, first_untested = (tuple(map(int, v.split(".")[:2])) for v in (numba.__version__, private.UNTESTED))
    assert now < first_untested
