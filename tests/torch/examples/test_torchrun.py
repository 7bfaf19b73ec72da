"""docs/examples/torchrun.py: killed with all its ranks and begun again, it trains what it would have trained."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptive_sampler import ScoreStore
from tests.torch.examples.killed import EXAMPLES, Run, a_little_later, at_length, result

SCRIPT = EXAMPLES / "torchrun.py"


def started(folder: Path, ranks: int) -> Run:
    return Run(SCRIPT, "--folder", folder, ranks=ranks)


def walk_in(folder: Path) -> dict[str, Any]:
    """The sampler's state in the checkpoint; its epoch is -1 before the first."""
    path = folder / "checkpoint.pt"
    return torch.load(path)["walk"] if path.exists() else {"epoch": -1, "position": 0}


def within(folder: Path, epoch: int) -> Callable[[], bool]:
    """Whether a checkpoint of the first half of an epoch, not of its beginning, has come: the next is within it too.

    Of this epoch or, if that moment was missed, of a later one.
    """

    def reached() -> bool:
        walk = walk_in(folder)
        return walk["epoch"] >= epoch and 0 < walk["position"] < walk["length"] / 2

    return reached


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("whole")
    started(folder, 2).output()
    return result(folder)


@pytest.mark.parametrize("epoch", [pytest.param(0, marks=at_length), 2])
def test_killed_within_an_epoch_it_goes_on_to_the_same_weights_and_scores(
    never_killed: Any, tmp_path: Path, epoch: int
) -> None:
    started(tmp_path, 2).kill_when(within(tmp_path, epoch))
    assert walk_in(tmp_path)["position"] % walk_in(tmp_path)["length"] > 0  # in mid-epoch
    assert "6 epochs" in started(tmp_path, 2).output()
    assert result(tmp_path) == never_killed


@at_length
def test_killed_at_random_moments_it_goes_on_to_the_same_weights_and_scores(never_killed: Any, tmp_path: Path) -> None:
    rng = random.Random(7)
    for _ in range(2):
        started(tmp_path, 2).kill_when(some_checkpoints_later(tmp_path, rng))
    started(tmp_path, 2).output()
    assert result(tmp_path) == never_killed


def some_checkpoints_later(folder: Path, rng: random.Random) -> Callable[[], bool]:
    """Whether a few checkpoints have come since this was called, and some milliseconds: in a step, a commit, a write."""
    checkpoint, wanted = folder / "checkpoint.pt", rng.randint(1, 8)
    written = {checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0}

    def reached() -> bool:
        written.add(checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0)
        return len(written) > wanted

    return a_little_later(reached, rng)


def test_begun_on_two_ranks_and_gone_on_with_by_one_every_row_is_visited_as_often_as_planned(tmp_path: Path) -> None:
    started(tmp_path, 2).kill_when(within(tmp_path, 0))
    started(tmp_path, 1).output()
    _, _, counts = result(tmp_path)
    with ScoreStore.open(tmp_path / "scores.zarr", mode="r") as store:
        kept = store.plan(walk_in(tmp_path)["once"][0]).repeats
    # The first epoch visits each row once, partly on two ranks and partly on one; the other five those that are kept.
    assert counts == (1 + 5 * kept.astype(int)).tolist()


@at_length
def test_begun_again_when_it_has_ended_it_trains_no_more(tmp_path: Path) -> None:
    printed = started(tmp_path, 1).output()
    ended = result(tmp_path)
    assert started(tmp_path, 1).output() == printed
    assert result(tmp_path) == ended
