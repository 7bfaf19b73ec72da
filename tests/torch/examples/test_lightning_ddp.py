"""docs/examples/lightning_ddp.py: killed with all its ranks and begun again, it trains what it would have trained."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.torch.examples.killed import EXAMPLES, Run, a_little_later, at_length, result

SCRIPT = EXAMPLES / "lightning_ddp.py"
STEPS = 29  # of an epoch on two ranks


def started(folder: Path) -> Run:
    return Run(SCRIPT, "--folder", folder, ranks=2)


def last_step(folder: Path) -> int:
    """The step of the newest checkpoint; -1 before the first."""
    return max((int(path.stem.split("=")[1]) for path in folder.glob("*.ckpt")), default=-1)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("whole")
    assert f"6 epochs, {6 * STEPS} steps" in started(folder).output()
    return result(folder)


@pytest.mark.parametrize("step", [pytest.param(5, marks=at_length), 2 * STEPS + 5])
def test_killed_within_an_epoch_it_goes_on_to_the_same_weights_and_scores(
    never_killed: Any, tmp_path: Path, step: int
) -> None:
    started(tmp_path).kill_when(lambda: step <= last_step(tmp_path) and 0 < last_step(tmp_path) % STEPS < STEPS / 2)
    assert last_step(tmp_path) % STEPS  # an epoch was not over
    assert f"6 epochs, {6 * STEPS} steps" in started(tmp_path).output()
    assert result(tmp_path) == never_killed


def some_checkpoints_later(folder: Path, rng: random.Random) -> Callable[[], bool]:
    """Whether a few checkpoints have come since this was called, and some milliseconds: in a step, a commit, a write."""
    wanted = last_step(folder) + 1 + 5 * rng.randint(0, 8)
    return a_little_later(lambda: last_step(folder) >= wanted, rng)


@at_length
def test_killed_at_random_moments_it_goes_on_to_the_same_weights_and_scores(never_killed: Any, tmp_path: Path) -> None:
    rng = random.Random(7)
    for _ in range(2):
        started(tmp_path).kill_when(some_checkpoints_later(tmp_path, rng))
    started(tmp_path).output()
    assert result(tmp_path) == never_killed
