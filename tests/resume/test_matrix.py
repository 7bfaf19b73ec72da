"""Wherever a training is stopped it goes on exactly: every combination of what loops, Lightning and the Trainer are made of."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from adaptive_sampler.testing import check_resume
from tests.resume import by_lightning, by_trainer, loaders
from tests.resume.cells import FAILED, FITS, LOOPS, TUNINGS, Axes, Cell, Fit, Tuned, named

# `make resume` runs all of them, for hours.
ALL = os.environ.get("RESUME") == "all"


def cells(axes: Axes, failed: Sequence[Cell] = ()) -> pytest.MarkDecorator:
    """Run a test for each combination, or for a covering of them with those that failed once."""
    return pytest.mark.parametrize("cell", axes.every() if ALL else axes.covering([*failed]), ids=named)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loaders.write(tmp_path_factory.mktemp("shards"))


@cells(LOOPS, FAILED)
def test_a_loop_goes_on_exactly(cell: Cell, shards: Path) -> None:
    check_resume(partial(loaders.made, cell, shards), ranks=cell.ranks)


@cells(FITS)
def test_lightning_goes_on_exactly(cell: Fit) -> None:
    check_resume(partial(by_lightning.made, cell), ranks=cell.ranks)


@cells(TUNINGS)
def test_the_trainer_goes_on_exactly(cell: Tuned) -> None:
    check_resume(partial(by_trainer.made, cell), ranks=cell.ranks)
