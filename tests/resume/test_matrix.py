"""Wherever a loop over a loader is stopped, it goes on exactly: every combination of what such a loop is made of."""

import os
from functools import partial
from pathlib import Path

import pytest

from adaptive_sampler.testing import check_resume
from tests.resume.cells import Cell, covering, every
from tests.resume.loaders import made, write

# `make resume` runs all of them, for an hour.
CELLS = every() if os.environ.get("RESUME") == "all" else covering()

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # where there are fewer cores than workers
]


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shards"))


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_loop_goes_on_exactly(cell: Cell, shards: Path) -> None:
    check_resume(partial(made, cell, shards), ranks=cell.ranks)
