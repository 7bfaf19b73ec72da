"""Makes the training of a cell of Hugging Face's Trainer: a checkpoint at each step or epoch, and a training from each."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Error, Loss
from adaptive_sampler.selection import Prune, Upsample
from adaptive_sampler.testing import Trace
from adaptive_sampler.torch import AdaptiveSampler, IndexedDataset, LossHook, distributed_store
from adaptive_sampler.torch.transformers import AdaptiveTrainer, SamplerCallback
from tests.resume.cells import Tuned
from tests.resume.loaders import SIZE, WORKERS, N
from tests.torch.training import Model, Samples

PLANS: dict[str, Any] = {
    "each epoch": lambda: {"policy": Prune(0.8, by="loss", max_age=1), "num_samples": 37},
    "once": lambda: {"policy": Prune(0.8, by="loss"), "replan": "once", "warmup_epochs": 1, "num_samples": 37},
    "second stage": lambda: {"policy": Upsample(2, by="error"), "num_samples": 53},
    "second stage, frozen": lambda: {"policy": Upsample(2, by="error"), "replan": "once"},
}


class Noting(AdaptiveTrainer):
    """Notes the rows of each batch."""

    trace: Trace

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        rows = inputs["row"].tolist()
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.trace.batch(rows, self.adaptive_sampler.fixed_plan)
        return loss


class Saved(TrainerCallback):
    """Notes each checkpoint."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        path = f"{args.output_dir}/checkpoint-{state.global_step}"
        if dist.is_initialized():
            dist.barrier()  # the first rank writes it
        self.trace.saved(path, SamplerCallback.commit_of(path))


class Trained:
    """A training by the Trainer, as `check_resume` drives it."""

    def __init__(self, cell: Tuned, folder: Path, commit: int | None) -> None:
        torch.manual_seed(0)
        self.cell, self.folder = cell, folder
        self.store = opened(cell, folder / "scores", commit)
        self.sampler = AdaptiveSampler(self.store, seed=1, **PLANS[cell.plan]())

    def train(self, epochs: int, trace: Trace, resume: Any = None) -> None:
        cell = self.cell
        workers = WORKERS[cell.workers]
        arguments = TrainingArguments(
            str(self.folder / "checkpoints"),
            use_cpu=True,
            num_train_epochs=epochs,
            per_device_train_batch_size=SIZE,
            gradient_accumulation_steps=cell.accumulate,
            save_strategy="no" if resume else cell.saved,
            save_steps=1,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            learning_rate=0.1,
            dataloader_pin_memory=False,
            dataloader_drop_last=cell.drop_last,
            dataloader_num_workers=workers.get("num_workers", 0),
            dataloader_persistent_workers=workers.get("persistent_workers", False),
        )
        frozen = self.store.session.mode == "r"
        trainer = Noting(
            Model(),
            arguments,
            train_dataset=IndexedDataset(Samples(N), self.store, key="row"),
            sampler=self.sampler,
            hook=None if frozen else LossHook(nn.CrossEntropyLoss(), self.store),
            callbacks=[Saved(trace)],
        )
        trainer.trace = trace
        trainer.train(resume_from_checkpoint=resume)
        weights = torch.nn.utils.parameters_to_vector(trainer.model.parameters())
        trace.scores["weights"] = weights.detach().numpy().tobytes()


def opened(cell: Tuned, path: Path, commit: int | None) -> ScoreStore:
    """The store; for a second stage, one whose first stage saw every row."""
    scores = [EL2N(), Loss(), Error()]
    second = cell.plan.startswith("second")
    if second and commit is None and (not dist.is_initialized() or dist.get_rank() == 0):
        with ScoreStore.create(path, N, scores) as store:
            logits = np.random.default_rng(0).normal(size=(N, 3))
            store.update(np.arange(N), logits=logits, labels=np.arange(N) % 3, epoch=0)
            store.begin_run("second stage")
            commit = store.commit()
    if dist.is_initialized():
        dist.barrier()
    if cell.plan.endswith("frozen"):
        return ScoreStore.open(path, version=commit, mode="r")
    return distributed_store(path, N, scores, version=commit, exist_ok=second)


def made(cell: Tuned, folder: Path, commit: int | None) -> Trained:
    """What a script of this cell does at its start: see `check_resume`."""
    warnings.simplefilter("ignore")  # Transformers' own
    torch.set_num_threads(1)
    return Trained(cell, folder, commit)
