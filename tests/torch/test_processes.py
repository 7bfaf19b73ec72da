"""What the processes that tests start have at their beginning."""

import sys

from tests import forks
from tests.torch.processes import run, succeeded


def missing(rank: int, modules: list[str]) -> list[str]:
    return [module for module in modules if module not in sys.modules]


def test_a_rank_begins_with_all_loaded_that_it_needs_of_what_this_process_has_loaded() -> None:
    needed = [module for module in forks.NEEDED if module in sys.modules]
    assert "torch.distributed" in needed
    assert succeeded(run(1, missing, needed)) == [[]]
