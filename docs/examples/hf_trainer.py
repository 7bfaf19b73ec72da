"""Hugging Face's Trainer on one process or on many. Killed at any moment, it goes on when started again.

python docs/examples/hf_trainer.py --folder runs/d
torchrun --nproc-per-node 2 docs/examples/hf_trainer.py --folder runs/d
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from sklearn.datasets import load_digits
from torch import nn
from transformers import TrainerCallback, TrainingArguments, set_seed

from adaptive_sampler.scoring import EL2N
from adaptive_sampler.torch import IndexedDataset, LossHook, PrunedSampler, distributed_store
from adaptive_sampler.torch.transformers import AdaptiveTrainer, SamplerCallback


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.layers(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Whole(TrainerCallback):
    """Marks each checkpoint that every process has written whole; the Trainer writes its files one after the other."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            Path(args.output_dir, f"checkpoint-{state.global_step}", "whole").touch()


def main(folder: Path) -> None:
    arguments = TrainingArguments(  # begins the process group, which the store needs on many processes
        str(folder),
        use_cpu=True,
        ddp_find_unused_parameters=False,
        num_train_epochs=6,
        per_device_train_batch_size=32,
        learning_rate=0.01,
        save_steps=5,
        save_total_limit=2,  # the last whole checkpoint stays until the next one is whole
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    set_seed(0)
    digits = load_digits()
    pixels = torch.tensor(digits.data / 16, dtype=torch.float32)
    samples = [{"pixels": x, "labels": int(y)} for x, y in zip(pixels, digits.target, strict=True)]

    whole = [mark.parent for mark in folder.glob("checkpoint-*/whole")]
    checkpoint = max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
    version = SamplerCallback.commit_of(checkpoint) if checkpoint else None  # the scores as they were then
    if checkpoint is None and arguments.process_index == 0:
        shutil.rmtree(
            folder / "scores.zarr", ignore_errors=True
        )  # of a run that was killed before its first checkpoint
    store = distributed_store(folder / "scores.zarr", len(samples), [EL2N()], version=version)
    how = {"keep": 0.5, "by": "el2n", "per_class": digits.target, "warmup_epochs": 1}
    trainer = AdaptiveTrainer(
        Net(),
        arguments,
        train_dataset=IndexedDataset(samples, store, key="row"),
        sampler=PrunedSampler(store, **how, num_samples=len(samples)),  # the Trainer wants epochs of one length
        hook=LossHook(nn.CrossEntropyLoss(), store),
        callbacks=[Whole()],
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    if trainer.is_world_process_zero():
        torch.save(trainer.model.state_dict(), folder / "final.pt")
        right = (trainer.model.layers(pixels).argmax(1).numpy() == digits.target).mean()
        print(f"{trainer.state.global_step} steps, {store.version} commits, {right:.1%} of the training set right")
    store.close()
    trainer.accelerator.wait_for_everyone()  # the first process may still be writing
    trainer.accelerator.end_training()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    main(parser.parse_args().folder)
