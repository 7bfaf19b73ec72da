"""A training whose ranks die goes on from its last checkpoint on fewer of them, and ends as if nothing had happened."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EMA, Forgetting, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, distributed_store, sync
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from tests.torch.processes import Failed, run, succeeded
from tests.torch.ranks.test_dying_ranks import die

N, EPOCHS, EACH = 35, 3, 4  # EACH: rows of a rank between two checkpoints
SCORES = [Loss(), Loss(name="moving", fold=EMA(0.7)), Forgetting()]
WHERE = ("drawing", "syncing", "committing", "saving")


def observe(store: ScoreStore, rows: list[int], epoch: int) -> None:
    """What a row shows in an epoch depends on nothing else, so that every way through the epoch ends alike."""
    loss = [float(np.random.default_rng([row, epoch]).random()) for row in rows]
    logits = np.stack([loss, np.full(len(rows), 0.5)], axis=1)
    store.update(rows, loss=loss, logits=logits, labels=np.zeros(len(rows), int))


def checkpoint(folder: Path, store: ScoreStore, sampler: AdaptiveSampler) -> None:
    saved = {"commit": store.version, "walk": sampler.state_dict()}
    (folder / "new").write_text(json.dumps(saved))
    os.replace(folder / "new", folder / "checkpoint")


def train(rank: int, folder: Path, dead: int, where: str, round_: int) -> Any:
    """Train to the end, or until rank `dead` dies `where` in a round of drawing, syncing, committing and saving."""
    saved = json.loads((folder / "checkpoint").read_text()) if (folder / "checkpoint").exists() else None
    store = distributed_store(folder / "store", N, SCORES, exist_ok=True, version=saved and saved["commit"])
    sampler = AdaptiveSampler(store, Prune(0.6, by="moving"), seed=3, warmup_epochs=1)
    dealt = DistributedAdaptiveSampler(sampler)
    if saved:
        sampler.load_state_dict(saved["walk"])
    rounds = iter(range(1000))
    while sampler.epoch < EPOCHS:
        walk, over = iter(dealt), False
        while not over:
            dying = where if rank == dead and next(rounds) == round_ else ""
            rows = [row for _, row in zip(range(EACH), walk, strict=False)]
            over = len(rows) < EACH
            if rows:
                observe(store, rows, sampler.epoch)
            _ = dying == "drawing" and die()
            sync(store, dealt)
            _ = dying == "syncing" and die()
            store.commit()
            _ = dying == "committing" and die()
            if rank == 0:
                checkpoint(folder, store, sampler)
            _ = dying == "saving" and die()
        dealt.set_epoch(sampler.epoch + 1)
    return {name: (store[name].tolist(), store.count(name).tolist()) for name in store.names}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(0, tmp_path_factory.mktemp("alone"), 0, "", -1)


@pytest.mark.parametrize(("first", "second"), [*zip(WHERE, WHERE[1:] + WHERE[:1], strict=True)])
def test_three_ranks_then_two_then_one_end_as_one_that_never_stopped(
    place: Path, undisturbed: Any, first: str, second: str
) -> None:
    place.mkdir()
    for ranks, dead, where in ((3, 1, first), (2, 0, second)):
        results = run(ranks, train, place, dead, where, 1)
        for rank in set(range(ranks)) - {dead}:
            assert isinstance(results[rank], Failed)
            assert f"RankLost: rank {dead} is gone" in str(results[rank])
    assert succeeded(run(1, train, place, 0, "", -1)) == [undisturbed]
