"""Ray Train: two workers, checkpoints within epochs. A worker that dies is started again and goes on from the last of them.

python docs/examples/ray_train.py --folder runs/a
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from sklearn.datasets import load_digits
from torch import nn
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

EPOCHS, BATCH, EVERY = 4, 32, 10  # a checkpoint every 10 steps


def train(config: dict[str, Any]) -> None:
    """What each worker runs. Ray has formed the process group by then."""
    folder = Path(config["folder"])  # on a file system that all nodes see
    first = ray.train.get_context().get_world_rank() == 0
    digits = load_digits()
    train_set = TensorDataset(torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    checkpoint = ray.train.get_checkpoint()  # the last one reported, also after a worker was lost
    saved = None
    if checkpoint:
        with checkpoint.as_directory() as at:
            saved = torch.load(Path(at) / "checkpoint.pt")
    version = saved["commit"] if saved else None  # the scores as they were at the checkpoint
    store = distributed_store(folder / "scores.zarr", len(train_set), [EL2N()], version=version, exist_ok=True)
    pruned = PrunedSampler(store, keep=0.5, by="el2n", per_class=digits.target, warmup_epochs=1)
    sampler = DistributedAdaptiveSampler(pruned)  # which prepare_data_loader keeps; it replaces any other
    loader = DataLoader(IndexedDataset(train_set, store), batch_size=BATCH, sampler=sampler)
    loader = ray.train.torch.prepare_data_loader(loader)
    criterion = LossHook(nn.CrossEntropyLoss(), store)

    def save() -> None:
        sync(store, sampler)  # every rank folds what all ranks observed: before a commit, and before the next plan
        state = {
            "commit": store.commit(),
            "walk": sampler.state_dict(delivered=criterion.delivered),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        about = {"epoch": sampler.epoch, "commit": state["commit"]}
        with tempfile.TemporaryDirectory() as part:
            if first:  # the state is the same on all ranks
                torch.save(state, Path(part) / "checkpoint.pt")
            ray.train.report(about, checkpoint=ray.train.Checkpoint.from_directory(part) if first else None)

    if saved:
        sampler.load_state_dict(saved["walk"])
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    else:
        save()  # so that a run whose worker dies before its first checkpoint has one too
    parallel = ray.train.torch.prepare_model(model)

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
        print(f"{EPOCHS} epochs, {store.version} commits")
    store.close()


def main(folder: Path, train: Any = train) -> Any:
    """Train on two workers of the cluster that Ray is connected to, or of a local one."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = ray.train.torch.TorchTrainer(
        train,
        train_loop_config={"folder": str(folder)},
        scaling_config=ray.train.ScalingConfig(num_workers=2),
        run_config=ray.train.RunConfig(
            name="digits",
            storage_path=str(folder / "ray"),
            failure_config=ray.train.FailureConfig(max_failures=3),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    return trainer.fit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    main(parser.parse_args().folder.absolute())
