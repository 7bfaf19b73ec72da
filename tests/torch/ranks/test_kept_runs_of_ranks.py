"""On ranks, too, a store keeps its runs apart: every rank has what all of them observed in each."""

from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.ranking import runs
from adaptive_sampler.scoring import Loss, Mean
from adaptive_sampler.torch import distributed_store, sync
from tests.torch.processes import run, succeeded

N = 6


def two_runs(rank: int, path: str) -> Any:
    store = distributed_store(path, N, [Loss(fold=Mean())], runs="kept")
    for number in range(2):
        store.begin_run(f"seed {number}")
        store.update([rank, 5], loss=[rank + 1.0, 10.0 * number])
        sync(store)
        store.commit()
    return {name: scores.tobytes() for name, scores in runs(store, "loss").items()}


def test_every_rank_has_what_all_observed_in_each_run_and_so_has_the_commit(tmp_path: Path) -> None:
    expected = {f"seed {i}": np.float32([1, 2, np.nan, np.nan, np.nan, 10 * i]).tobytes() for i in range(2)}
    assert succeeded(run(2, two_runs, str(tmp_path / "s"))) == [expected, expected]
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        assert {name: scores.tobytes() for name, scores in runs(store, "loss").items()} == expected
