"""One of the ranks that the benchmark `ranks` starts, and what that does in one process, too."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.bench.arena import reset_peak, status
from adaptive_sampler.scoring import EL2N, Confidence, Error, Forgetting, Loss, Margin
from adaptive_sampler.torch import distributed_store, sync

BATCH, RANKS = 256, 2


def six() -> list[Any]:
    """Six scores."""
    return [EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Error()]


def observe(store: ScoreStore, n: int, first: int, number: int, step: int) -> None:
    """Fold batches `first`, first + step, … of so many observations, or have the journal take them."""
    for batch in range(first, number // BATCH, step):
        rng = np.random.default_rng(batch)
        rows = rng.integers(0, n, BATCH)
        store.session.fold_matrix(rows, store.names, rng.integers(0, 2, (6, BATCH)).astype(np.float32), 0)


def timed(run: Any) -> tuple[float, float]:
    """(seconds, MiB) of a call."""
    before = status("VmRSS") or 0
    reset_peak()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    return seconds, ((status("VmHWM") or 0) - before) / 2**20


def rank(place: str, n: int, number: int, own: int, told: Any) -> None:
    """One rank, which sends what its sync took."""
    meet = Path(place).with_name(Path(place).name + "-meet")
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=own, world_size=RANKS)
    store = distributed_store(place, n, six())
    observe(store, n, own, RANKS * BATCH, RANKS)
    sync(store)
    observe(store, n, own, number, RANKS)
    dist.barrier()
    told.send(timed(lambda: sync(store)))
    dist.destroy_process_group()
