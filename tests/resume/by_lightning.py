"""Makes the training of a cell of Lightning's: a checkpoint at each step, epoch or validation, and a fit from each."""

import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Error, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.testing import Trace
from adaptive_sampler.torch import (
    AdaptiveSampler,
    DistributedAdaptiveSampler,
    IndexedDataset,
    LossHook,
    distributed_store,
)
from adaptive_sampler.torch.lightning import SamplerCallback
from tests.resume.cells import Fit
from tests.resume.loaders import SIZE, WORKERS, N
from tests.torch.lightning_ranks import Environment
from tests.torch.training import data


class Module(lightning.LightningModule):
    """Makes the store, the sampler and the hook at once, or when Lightning sets it up."""

    hook: LossHook

    def __init__(self, cell: Fit, folder: Path, commit: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(6, 3)
        self.cell, self.folder, self.commit = cell, folder, commit
        self.__dict__ |= {"store": None, "sampler": None, "trace": Trace()}
        if not cell.late:
            self.make()

    def make(self) -> None:
        scores = [EL2N(), Loss(), Error()]
        store = distributed_store(self.folder / "scores", N, scores, version=self.commit)
        sampler = AdaptiveSampler(store, Prune(0.8, by="loss", max_age=1), seed=4, num_samples=37)
        self.__dict__ |= {"store": store, "sampler": sampler, "hook": LossHook(nn.CrossEntropyLoss(), store)}

    def setup(self, stage: str) -> None:
        if self.store is None:
            self.make()

    def train_dataloader(self) -> Any:
        cell, sampler = self.cell, self.sampler
        drawn: dict[str, Any] = {"sampler": sampler, "batch_size": SIZE, "drop_last": cell.drop_last}
        if cell.batches:
            drawn = {"batch_sampler": sampler.batches(SIZE, drop_last=cell.drop_last)}
        elif cell.ranks > 1:
            drawn["sampler"] = DistributedAdaptiveSampler(sampler)
        return DataLoader(IndexedDataset(data(N), self.store), **drawn, **WORKERS[cell.workers])

    def val_dataloader(self) -> Any:
        return DataLoader(IndexedDataset(data(N), self.store), batch_size=20) if self.cell.validate else []

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        rows, (inputs, labels) = batch
        loss = self.hook(self.net(inputs), labels, rows=rows)
        self.trace.batch(rows, self.sampler.fixed_plan)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        _, (inputs, labels) = batch
        self.hook(self.net(inputs), labels)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=0.5)


class Saver(Checkpoint):
    """Writes a checkpoint whenever the cell says. Lightning calls such callbacks last."""

    def __init__(self, when: str, folder: Path, trace: Trace) -> None:
        self.when, self.folder, self.trace, self.last = when, folder, trace, 0

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if self.when == "step" and trainer.global_step != self.last:
            self.last = trainer.global_step
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.when == "epoch":
            self.save(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self.when == "validation" and not trainer.sanity_checking:
            self.save(trainer)

    def save(self, trainer: Any) -> None:
        path = self.folder / f"{len(self.trace.stops)}.ckpt"
        trainer.save_checkpoint(path)
        self.trace.saved(str(path), SamplerCallback.commit_of(path))


class Fitted:
    """A training by Lightning, as `check_resume` drives it."""

    def __init__(self, cell: Fit, folder: Path, commit: int | None) -> None:
        self.cell, self.folder, self.module = cell, folder, Module(cell, folder, commit)

    @property
    def store(self) -> ScoreStore:
        return self.module.store

    def train(self, epochs: int, trace: Trace, resume: Any = None) -> None:
        cell = self.cell
        self.module.__dict__["trace"] = trace
        ours = SamplerCallback((lambda: self.module.sampler) if cell.late else self.module.sampler)
        saver = [] if resume else [Saver(cell.saved, self.folder, trace)]
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=not resume,
            default_root_dir=self.folder,
            callbacks=[ours, *saver],
            accumulate_grad_batches=cell.accumulate,
            **({"limit_train_batches": cell.limit} if cell.limit else {}),
            **({"val_check_interval": cell.validate} if cell.validate else {}),
            **({"strategy": "ddp", "devices": 2, "plugins": [Environment()]} if cell.ranks > 1 else {"devices": 1}),
        )
        trainer.fit(self.module, ckpt_path=resume, weights_only=False if resume else None)
        weights = torch.nn.utils.parameters_to_vector(self.module.net.parameters())
        trace.scores["weights"] = weights.detach().numpy().tobytes()


def made(cell: Fit, folder: Path, commit: int | None) -> Fitted:
    """What a script of this cell does at its start: see `check_resume`."""
    warnings.simplefilter("ignore")  # Lightning's own
    torch.set_num_threads(1)
    return Fitted(cell, folder, commit)
