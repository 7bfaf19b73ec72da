"""A loop that begins an epoch anew on ranks: each pass counts as in one process, but for padding, whoever began it and when."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.torch.processes import run, succeeded
from tests.torch.ranks.one_process import RANKS, Counted, Process
from tests.torch.ranks.passes_begun import BEGUN
from tests.torch.ranks.passes_resumed import RESUMED

SCRIPTS = [*BEGUN, *RESUMED]


def all_of(rank: int, folder: str) -> dict[str, Counted]:
    return {script.__name__: script(Process(rank, RANKS, folder)) for script in SCRIPTS}


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Counted]]:
    """What each rank found by each script, all in one group of processes."""
    return succeeded(run(RANKS, all_of, str(tmp_path_factory.mktemp("stores"))))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_each_pass_over_an_epoch_counts_as_in_one_process(
    script: Callable[[Process], Counted], on_ranks: list[dict[str, Counted]], tmp_path: Path
) -> None:
    counts, means = script(Process(0, 1, str(tmp_path)))
    for rank in on_ranks:
        assert rank[script.__name__] == (counts, means)
