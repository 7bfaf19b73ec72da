"""Where no cache can be written nothing fails; and the one line that a user reads who has to wait."""

import os
import shutil
from pathlib import Path

import pytest

import adaptive_sampler
from tests.kernels.processes import ALWAYS, FEW, ONCE, ONE, ended, started

ONE_AHEAD = """
import numpy as np
from adaptive_sampler.commands import compile
from adaptive_sampler.kernels import bits

compile._steps = lambda folder: [("a bit", lambda: bits.test(np.array([1], np.uint8), np.array([0])))]
compile.run(progress=False)
"""

FULL_DISK = """
import errno, numba.core.caching

def full(self, *arguments):
    raise OSError(errno.ENOSPC, "No space left on device")

numba.core.caching.IndexDataCacheFile._save_index = full
"""


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    """The package in a folder where no cache can be written, not even by root: a file stands in each cache's place."""
    package = tmp_path / "site" / "adaptive_sampler"
    shutil.copytree(Path(adaptive_sampler.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__pycache__").write_text("")
    return package.parent


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


def test_an_install_that_cannot_be_written_uses_a_warm_cache_in_the_home(read_only: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    compiled, _ = ended(started(FEW, read_only, HOME=str(tmp_path / "home")))
    assert compiled > 0
    again, read = ended(started(FEW, read_only, HOME=str(tmp_path / "home")))
    assert again == 0
    assert read > 0


def test_a_disk_without_room_for_a_cache_ends_no_call(tmp_path: Path) -> None:
    process = started(FULL_DISK + ONE, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert process.communicate(timeout=300)[0] == "ok 1 0\n"


def test_compiling_ahead_onto_a_disk_without_room_is_an_error(tmp_path: Path) -> None:
    process = started(FULL_DISK + ONE_AHEAD, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    err = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    assert "No space left on device. Set NUMBA_CACHE_DIR to a folder that can" in err
