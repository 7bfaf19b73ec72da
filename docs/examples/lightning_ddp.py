"""Lightning on one process or on many. Killed at any moment, it goes on from its last checkpoint when started again.

python docs/examples/lightning_ddp.py --folder runs/b --devices 2
torchrun --nproc-per-node 2 docs/examples/lightning_ddp.py --folder runs/b
"""

import argparse
import os
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler.scoring import EL2N
from adaptive_sampler.torch import (
    DistributedAdaptiveSampler,
    IndexedDataset,
    LossHook,
    PrunedSampler,
    distributed_store,
)
from adaptive_sampler.torch.lightning import SamplerCallback


class Digits(lightning.LightningModule):
    def __init__(self, folder: Path, checkpoint: Path | None) -> None:
        super().__init__()
        self.folder, self.checkpoint = folder, checkpoint
        self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def setup(self, stage: str) -> None:  # here there is a process group, which the store needs on many ranks
        x, y = load_digits(return_X_y=True)
        commit = SamplerCallback.commit_of(self.checkpoint) if self.checkpoint else None
        self.store = distributed_store(self.folder / "scores.zarr", len(y), [EL2N()], version=commit, exist_ok=True)
        how = {"keep": 0.5, "by": "el2n", "per_class": y, "warmup_epochs": 1}
        pruned = PrunedSampler(self.store, **how, num_samples=len(y))  # Lightning wants epochs of one length
        self.sampler = DistributedAdaptiveSampler(pruned)
        data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
        self.dataset = IndexedDataset(data, self.store)
        self.criterion = LossHook(nn.CrossEntropyLoss(), self.store)

    def configure_callbacks(self) -> Any:
        return [SamplerCallback(lambda: self.sampler)]

    def train_dataloader(self) -> Any:
        return DataLoader(self.dataset, batch_size=32, sampler=self.sampler, num_workers=2)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        rows, (inputs, labels) = batch
        return self.criterion(self.model(inputs), labels, rows=rows)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def on_train_start(self) -> None:
        if self.checkpoint is None:  # so that a run which is killed before its first checkpoint has one too
            self.trainer.save_checkpoint(self.folder / "step=00000.ckpt")

    def teardown(self, stage: str) -> None:
        self.store.close()


class WholeFiles(TorchCheckpointIO):
    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, f"{path}.partial", storage_options)
        os.replace(f"{path}.partial", path)  # the whole checkpoint or none: Lightning may copy it from another disk


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--devices", type=int, default=int(os.environ.get("LOCAL_WORLD_SIZE", 1)))  # torchrun's
    arguments = parser.parse_args()
    lightning.seed_everything(0)
    module = Digits(arguments.folder, max(arguments.folder.glob("*.ckpt"), default=None))  # the last step's
    trainer = lightning.Trainer(
        max_epochs=6,
        accelerator="cpu",
        strategy="ddp",
        devices=arguments.devices,
        callbacks=[ModelCheckpoint(arguments.folder, "{step:05d}", every_n_train_steps=5)],
        plugins=[WholeFiles()],
        logger=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, ckpt_path=module.checkpoint)
    if trainer.is_global_zero:
        torch.save(module.model.state_dict(), arguments.folder / "final.pt")
        print(f"{trainer.current_epoch} epochs, {trainer.global_step} steps")
