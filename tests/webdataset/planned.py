"""What the tests of planned shards share: a store and a sampler of 90 samples, rows of samples, and a loader of somebody else."""

from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Error, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.webdataset import PlannedShards

N = 90


def store_of(path: Path | None = None) -> ScoreStore:
    store = ScoreStore.create(path, N, [Loss(), Error()])
    store.fold("loss", np.arange(N), np.arange(N, dtype=np.float32))
    return store


def top_half(**options: Any) -> AdaptiveSampler:
    return AdaptiveSampler(store_of(), Prune(0.5, "loss"), **options)


def rows(stream: Any) -> list[int]:
    return [sample["__index__"] for sample in stream]


def indices(items: list[dict[str, Any]]) -> list[int]:
    return [item["__index__"] for item in items]


def foreign(shards: PlannedShards, persistent: bool = False) -> DataLoader[Any]:
    return DataLoader(shards, batch_size=8, num_workers=2, collate_fn=indices, persistent_workers=persistent)
