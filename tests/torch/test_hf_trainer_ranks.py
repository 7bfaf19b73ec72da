"""Hugging Face's Trainer on two ranks whose batches do not divide: a resume after any step is the run that never stopped."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EMA, Loss
from adaptive_sampler.selection import Prune, Upsample
from adaptive_sampler.torch import IndexedDataset, LossHook, distributed_store
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.transformers import AdaptiveTrainer, SamplerCallback
from tests.torch.processes import run, succeeded
from tests.torch.training import Model, Samples, columns

N, BATCH, EPOCHS = 44, 8, 3
SCORES = [Loss(fold=EMA())]
POLICIES = {"prune": Prune(0.7, "loss"), "upsample": Upsample(2, "loss")}


class Trainer(AdaptiveTrainer):
    """Notes the rows of each step."""

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen.append(inputs["row"].tolist())
        return super().training_step(model, inputs, *args, **kwargs)


def train(store: ScoreStore, folder: Path, policy: str, accumulate: int, checkpoint: str | None = None) -> Any:
    """Train -> the rows of each batch, all that the store holds, how often the next plan visits each row."""
    torch.manual_seed(0)
    sampler = AdaptiveSampler(store, POLICIES[policy], seed=1, warmup_epochs=1, num_samples=N)
    arguments = TrainingArguments(
        str(folder),
        use_cpu=True,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=accumulate,
        save_strategy="no" if checkpoint else "steps",
        save_steps=1,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        Model(),
        arguments,
        train_dataset=IndexedDataset(Samples(N), store, key="row"),
        sampler=sampler,
        hook=LossHook(nn.CrossEntropyLoss(), store),
    )
    trainer.seen = []
    trainer.train(resume_from_checkpoint=checkpoint)
    sampler.set_epoch(EPOCHS)
    return trainer.seen, [array.tobytes() for _, array in columns(store, "loss")], sampler.plan.repeats.tolist()


def stop_everywhere(rank: int, path: str, policy: str, accumulate: int) -> Any:
    """Train without a stop, and from each of its checkpoints -> how often each row was counted, and the batches."""
    warnings.simplefilter("ignore")
    folder = Path(path).parent / "checkpoints"
    with distributed_store(path, N, SCORES) as store:
        seen, *end = train(store, folder, policy, accumulate)
        counts = store.count("loss").tolist()
    checkpoints = sorted(folder.iterdir(), key=lambda checkpoint: int(checkpoint.name.partition("-")[2]))
    for checkpoint in checkpoints:
        with distributed_store(path, N, SCORES, version=SamplerCallback.commit_of(checkpoint)) as store:
            rest, *again = train(store, folder, policy, accumulate, str(checkpoint))
        assert rest == seen[len(seen) - len(rest) :], f"rows after {checkpoint.name}"
        assert again == end, f"scores or plan after {checkpoint.name}"
    return counts, len(seen), len(checkpoints)


@pytest.mark.parametrize(("policy", "accumulate"), [("prune", 1), ("upsample", 2)])
def test_padding_is_no_visit_after_a_resume_either(place: Path, policy: str, accumulate: int) -> None:
    results = succeeded(run(2, stop_everywhere, str(place), policy, accumulate))
    for counts, batches, checkpoints in results:
        assert sum(counts) == EPOCHS * N
        assert batches * BATCH * 2 > EPOCHS * N  # so that there was padding
        assert checkpoints == EPOCHS * -(-batches // EPOCHS // accumulate)
    assert results[0] == results[1]
