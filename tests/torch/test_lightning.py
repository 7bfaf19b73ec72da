"""Lightning and Fabric, one process and two: the planned rows, the right epoch, and the same rows after a resume."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, LossHook, check
from adaptive_sampler.torch.lightning import SamplerCallback
from adaptive_sampler.torch.samplers import TorchSampler
from tests.torch.training import data

N, BATCH = 46, 5
SCORES = [EL2N(), Loss()]


class Module(lightning.LightningModule):
    """Notes the rows of each step of each epoch."""

    def __init__(self, hook: LossHook) -> None:
        super().__init__()
        self.net, self.seen = nn.Linear(6, 3), {}
        self.__dict__["hook"] = hook  # no child: it has no parameters

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        rows, (inputs, labels) = batch
        self.seen.setdefault(self.current_epoch, []).append(rows.tolist())
        check(self.trainer.train_dataloader)
        return self.hook(self.net(inputs), labels, rows=rows)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=0.5)


def fit(
    store: ScoreStore, folder: str, *, workers: int = 0, epochs: int = 3, ckpt: str | None = None, **kwargs: Any
) -> Any:
    """Train -> the module, its trainer and callback."""
    torch.manual_seed(0)
    sampler: Any = TorchSampler(store, Prune(0.5, "loss"), seed=1, warmup_epochs=1)
    if kwargs.get("devices", 1) > 1:
        sampler = DistributedAdaptiveSampler(sampler, num_replicas=2, rank=kwargs["plugins"][0].global_rank())
    callbacks = [SamplerCallback(sampler), *kwargs.pop("callbacks", [])]
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        enable_checkpointing=any(isinstance(c, lightning.pytorch.callbacks.ModelCheckpoint) for c in callbacks),
        callbacks=callbacks,
        reload_dataloaders_every_n_epochs=1,
        **{"devices": 1} | kwargs,
    )
    module = Module(LossHook(nn.CrossEntropyLoss(), store))
    loader = DataLoader(IndexedDataset(data(N), store), sampler=sampler, batch_size=BATCH, num_workers=workers)
    trainer.fit(module, loader, ckpt_path=ckpt, weights_only=False if ckpt else None)
    return module, trainer, sampler


def saver(folder: Path, every: int) -> Any:
    return lightning.pytorch.callbacks.ModelCheckpoint(
        dirpath=folder, filename="{step}", every_n_train_steps=every, save_top_k=-1
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_trains_on_the_plan_and_resumes_at_any_checkpoint(place: Path, workers: int) -> None:
    folder = place.parent / "checkpoints"
    with ScoreStore.create(place, N, SCORES) as store:
        module, _, _ = fit(store, str(folder), workers=workers, callbacks=[saver(folder, 3)])
        scores = store["loss"].tolist()
    assert [sum(map(len, module.seen[epoch])) for epoch in range(3)] == [N, N // 2, N // 2]
    steps = [rows for epoch in range(3) for rows in module.seen[epoch]]
    for step in (3, 9, 12, 15, 18):
        path = folder / f"step={step}.ckpt"
        with ScoreStore.open(place, version=SamplerCallback.commit_of(path)) as store:
            again, _, _ = fit(store, str(folder), workers=workers, ckpt=str(path), callbacks=[saver(folder, 3)])
            assert [rows for epoch in sorted(again.seen) for rows in again.seen[epoch]] == steps[step:]
            assert store["loss"].tolist() == scores
