"""Accelerate on one process or on many. Killed at any moment, it goes on from its last checkpoint when started again.

python docs/examples/accelerate_launch.py --folder runs/c
torchrun --nproc-per-node 2 docs/examples/accelerate_launch.py --folder runs/c
"""

import argparse
import os
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler.scoring import EL2N
from adaptive_sampler.torch import IndexedDataset, LossHook, PrunedSampler, check, distributed_store
from adaptive_sampler.torch.accelerate import SamplerCheckpoint

EPOCHS, BATCH, EVERY = 6, 32, 5  # a checkpoint every 5 steps


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(cpu=True)

    digits = load_digits()
    train_set = TensorDataset(torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    checkpoint = max(folder.glob("checkpoint-*"), default=None)
    version = SamplerCheckpoint.commit_of(checkpoint) if checkpoint else None  # the scores as they were then
    store = distributed_store(folder / "scores.zarr", len(train_set), [EL2N()], version=version, exist_ok=True)
    sampler = PrunedSampler(store, keep=0.5, by="el2n", per_class=digits.target, warmup_epochs=1)
    loader = DataLoader(IndexedDataset(train_set, store), batch_size=BATCH, sampler=sampler)
    criterion = LossHook(nn.CrossEntropyLoss(), store)
    loader, model, optimizer = accelerator.prepare(loader, model, optimizer)
    accelerator.register_for_checkpointing(SamplerCheckpoint(loader, criterion))

    def save() -> None:
        accelerator.save_state(folder / "partial")  # syncs and commits the store, too
        accelerator.wait_for_everyone()  # each process has written its part
        if accelerator.is_main_process:
            old = list(folder.glob("checkpoint-*"))
            os.replace(folder / "partial", folder / f"checkpoint-{store.version:06}")  # all of it, or nothing
            for earlier in old:
                shutil.rmtree(earlier)
        accelerator.wait_for_everyone()  # or one would write its next part into the folder that is moved

    if checkpoint:
        accelerator.load_state(checkpoint)
    else:
        save()  # so that a run which is killed before its first checkpoint has one too

    for _ in range(sampler.epoch, EPOCHS):
        for step, (inputs, labels) in enumerate(criterion.watch(loader), 1):
            accelerator.backward(criterion(model(inputs), labels))
            optimizer.step()
            optimizer.zero_grad()
            if step % EVERY == 0:
                check(loader)
                save()
        save()  # before the next plan is made

    if accelerator.is_main_process:
        trained = accelerator.unwrap_model(model)
        torch.save(trained.state_dict(), folder / "final.pt")
        right = (trained(train_set.tensors[0]).argmax(1) == train_set.tensors[1]).float().mean()
        print(f"{EPOCHS} epochs, {store.version} commits, {right:.1%} of the training set right")
    store.close()
    accelerator.wait_for_everyone()  # the first process may still be writing
    accelerator.end_training()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    main(parser.parse_args().folder)
