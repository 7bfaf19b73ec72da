"""Does my loader go on exactly wherever training stops, on two processes? It says so after a minute, or says where not.

python docs/examples/check_resume.py
"""

from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler.scoring import EL2N
from adaptive_sampler.testing import check_resume
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, PrunedSampler, distributed_store

train_set = TensorDataset(torch.randn(100, 8), torch.arange(100) % 10)  # as long as you like: no model is trained


def make(folder: Path, commit: int | None) -> DataLoader:
    """What my script does at its start: open the store as of a commit, or create it, and put a loader together."""
    store = distributed_store(folder / "scores.zarr", len(train_set), [EL2N()], version=commit)
    sampler = PrunedSampler(store, keep=0.5, by="el2n", per_class=train_set.tensors[1].numpy(), warmup_epochs=1)
    dealt = DistributedAdaptiveSampler(sampler)
    return DataLoader(IndexedDataset(train_set, store), batch_size=8, sampler=dealt, drop_last=True, num_workers=2)


if __name__ == "__main__":
    check_resume(make, ranks=2)
    print("Stopped after any batch of three epochs, it goes on exactly.")
