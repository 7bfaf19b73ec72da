"""What scripts of passes over an epoch begun anew have in common: a process of some ranks, and what it observes."""

from typing import Any, NamedTuple

import numpy as np
import torch.distributed as dist

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EMA, Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import (
    DistributedAdaptiveSampler,
    distributed_store,
)
from adaptive_sampler.torch.data.samplers import AdaptiveSampler

N, STEP = 11, 4  # odd, so that two ranks are padded; the samples of a step, of all ranks together
RANKS = 2

Counted = tuple[list[int], list[float]]


class Process(NamedTuple):
    """One of `ranks` processes, which runs one script after another, each with a store of its own below `folder`."""

    rank: int
    ranks: int
    folder: str

    def opened(self, name: str, **how: Any) -> ScoreStore:
        return distributed_store(f"{self.folder}/{name}", N, [Loss(fold=EMA())], **how)

    def meet(self) -> None:
        if self.ranks > 1:
            dist.barrier()

    def again(self, store: ScoreStore, name: str) -> ScoreStore:
        """The store as another process opens it that goes on from the commit."""
        store.commit()
        store.close()
        self.meet()
        return self.opened(name, exist_ok=True)

    def walker(self, store: ScoreStore, policy: Any = None, **how: Any) -> DistributedAdaptiveSampler:
        inner = AdaptiveSampler(store, policy or KeepAll(), seed=3, **how)
        return DistributedAdaptiveSampler(inner, num_replicas=self.ranks, rank=self.rank)

    def steps(self, sampler: DistributedAdaptiveSampler) -> Any:
        return iter(sampler.batches(STEP // self.ranks))


def see(store: ScoreStore, rows: Any, nth: int = 0) -> None:
    """Observe losses that differ from pass to pass, so that their moving mean tells the order."""
    store.update(rows, loss=np.sin((np.asarray(rows) + 1) * 12.9898 + nth) + 1)


def found(store: ScoreStore) -> Counted:
    return store.count("loss").tolist(), store["loss"].tolist()


def train(process: Process, store: ScoreStore, sampler: Any, nth: int = 0, steps: int | None = None) -> None:
    for step, rows in enumerate(process.steps(sampler)):
        if step == steps:
            break
        see(store, rows, nth)
