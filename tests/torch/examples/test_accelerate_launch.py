"""docs/examples/accelerate_launch.py: killed with all its ranks and begun again, it trains what it would have trained."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.torch.examples.killed import EXAMPLES, ROOT, Run, a_little_later, at_length, result

SCRIPT = EXAMPLES / "accelerate_launch.py"
SLOW = """
import os, runpy, sys, time
replace = os.replace

def late(of, to):
    time.sleep(0.2 if os.path.basename(of) == "partial" else 0)
    replace(of, to)

os.replace = late
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def started(folder: Path, ranks: int = 2) -> Run:
    return Run(SCRIPT, "--folder", folder, ranks=ranks)


def last(folder: Path) -> int:
    """The commit of the newest checkpoint; 0 before the first."""
    return max((int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")), default=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never killed, whose first process is slow to move each checkpoint into its place."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "slow.py").write_text(SLOW)
    Run(folder / "slow.py", SCRIPT, "--folder", folder, ranks=2).output()
    return folder


@pytest.fixture(scope="module")
def never_killed(whole: Path) -> Any:
    return result(whole)


def test_a_checkpoint_has_the_parts_of_all_processes_however_slowly_the_one_before_is_moved(whole: Path) -> None:
    """The last two checkpoints follow each other without a step between them."""
    parts = [path.name for path in whole.glob("checkpoint-*/random_states_*.pkl")]
    assert sorted(parts) == ["random_states_0.pkl", "random_states_1.pkl"]


@pytest.mark.parametrize("saved", [pytest.param(2, marks=at_length), 12])
def test_killed_within_an_epoch_it_goes_on_to_the_same_weights_and_scores(
    never_killed: Any, tmp_path: Path, saved: int
) -> None:
    """`saved`: the checkpoint after 5 steps of the first and of the third epoch, of 29 and 15 steps."""
    started(tmp_path).kill_when(lambda: last(tmp_path) >= saved)
    assert not (tmp_path / "final.pt").exists()
    started(tmp_path).output()
    assert result(tmp_path) == never_killed


def moment(folder: Path, rng: random.Random) -> Callable[[], bool]:
    """Whether a few checkpoints have come since this was called, and some milliseconds: in a step, a commit, a write."""
    wanted = last(folder) + rng.randint(1, 5)
    return a_little_later(lambda: last(folder) >= wanted, rng)


@at_length
def test_killed_at_random_moments_it_goes_on_to_the_same_weights_and_scores(never_killed: Any, tmp_path: Path) -> None:
    rng = random.Random(3)
    for _ in range(3):
        started(tmp_path).kill_when(moment(tmp_path, rng))
    started(tmp_path).output()
    assert result(tmp_path) == never_killed


def test_it_runs_unchanged_on_one_process_and_does_nothing_when_it_is_done(tmp_path: Path) -> None:
    assert "of the training set right" in started(tmp_path, ranks=1).output()
    done = result(tmp_path)
    started(tmp_path, ranks=1).output()
    assert result(tmp_path) == done


def test_the_page_of_frameworks_links_to_it() -> None:
    assert "(examples/accelerate_launch.py)" in (ROOT / "docs" / "checkpoints.md").read_text()
