"""Language models in the Trainer on two processes: the weights and scores of one process with batches of twice the size."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, DataCollatorWithFlattening

from adaptive_sampler.scoring import Loss
from adaptive_sampler.torch import distributed_store
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from tests.torch.processes import run, succeeded
from tests.torch.trainers.small import BATCH, N, causal, documents, tokenizer, trained, weights_of
from tests.torch.trainers.test_weights import SGD, VARIED, Given

COLLATORS = {
    "padded": lambda: DataCollatorForLanguageModeling(tokenizer(), mlm=False),
    "flattened": DataCollatorWithFlattening,
}


def go(rank: int, path: str, collator: str, batch: int, accumulate: int) -> Any:
    """Train for two epochs with weights -> the model's weights, the scores, and their counts."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with distributed_store(path, N, [Loss()]) as store:
        trainer = trained(
            causal(),
            TokenLossHook(store),
            Dataset.from_list(documents()),
            COLLATORS[collator](),
            Path(path).parent,
            Given(VARIED),
            num_train_epochs=2,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulate,
            **SGD,
        )
        found = {name: x.numpy() for name, x in weights_of(trainer.model).items()}
        return found, store["loss"].copy(), store.count("loss").tolist()


@pytest.mark.parametrize(("collator", "accumulate"), [("padded", 1), ("flattened", 2)])
def test_two_processes_train_as_one_with_batches_of_twice_the_size(collator: str, accumulate: int, place: Path) -> None:
    place.mkdir()
    two = succeeded(run(2, go, str(place / "two"), collator, BATCH // 2, accumulate))
    (one,) = succeeded(run(1, go, str(place / "one"), collator, BATCH, accumulate))
    for weights, losses, counts in two:
        assert counts == one[2] == [2] * N
        np.testing.assert_allclose(losses, one[1], rtol=1e-5)
        for name, x in one[0].items():
            np.testing.assert_allclose(weights[name], x, rtol=1e-6, atol=1e-6)
