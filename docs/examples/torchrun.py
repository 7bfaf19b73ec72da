"""Plain PyTorch on one process or on many. Killed at any moment, it goes on from its last checkpoint when started again.

python docs/examples/torchrun.py --folder runs/a
torchrun --nproc-per-node 2 docs/examples/torchrun.py --folder runs/a
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler.scoring import EL2N
from adaptive_sampler.torch import (
    DistributedAdaptiveSampler,
    IndexedDataset,
    LossHook,
    PrunedSampler,
    check,
    distributed_store,
    sync,
)

EPOCHS, BATCH, EVERY = 6, 32, 5  # a checkpoint every 5 steps


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if "WORLD_SIZE" in os.environ:  # set by torchrun
        dist.init_process_group("gloo")
    first = not dist.is_initialized() or dist.get_rank() == 0

    digits = load_digits()
    train_set = TensorDataset(torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    checkpoint = folder / "checkpoint.pt"
    saved = torch.load(checkpoint) if checkpoint.exists() else None
    version = saved["commit"] if saved else None  # the scores as they were at the checkpoint
    store = distributed_store(folder / "scores.zarr", len(train_set), [EL2N()], version=version, exist_ok=True)
    pruned = PrunedSampler(store, keep=0.5, by="el2n", per_class=digits.target, warmup_epochs=1)
    sampler = DistributedAdaptiveSampler(pruned)
    loader = DataLoader(IndexedDataset(train_set, store), batch_size=BATCH, sampler=sampler, num_workers=2)
    criterion = LossHook(nn.CrossEntropyLoss(), store)

    def save() -> None:
        sync(store, sampler)  # every rank folds what all ranks observed: before a commit, and before the next plan
        state = {
            "commit": store.commit(),
            "walk": sampler.state_dict(delivered=criterion.delivered),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        if first:  # the state is the same on all ranks
            torch.save(state, folder / "partial.pt")
            os.replace(folder / "partial.pt", checkpoint)  # the whole new checkpoint, or still the old one

    if saved:
        sampler.load_state_dict(saved["walk"])
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    else:
        save()  # so that a run which is killed before its first checkpoint has one too
    parallel = DistributedDataParallel(model) if dist.is_initialized() else model

    for epoch in range(sampler.epoch, EPOCHS):
        sampler.set_epoch(epoch)
        for step, (inputs, labels) in enumerate(criterion.watch(loader), 1):
            loss = criterion(parallel(inputs), labels)
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            if step % EVERY == 0:
                check(loader)
                save()
        save()

    if first:
        torch.save(model.state_dict(), folder / "final.pt")
        right = (model(train_set.tensors[0]).argmax(1) == train_set.tensors[1]).float().mean()
        print(f"{EPOCHS} epochs, {store.version} commits, {right:.1%} of the training set right")
    store.close()
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    main(parser.parse_args().folder)
